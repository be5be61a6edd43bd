"""``hf:``: the tokenizers library behind tokpack's contract."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from tokpack.batches import TextBatch, TokenBatch, offsets_from_lengths
from tokpack.dtypes import TokenArray, token_dtype
from tokpack.errors import DamagedError, UsageError
from tokpack.protocols import NativeEngine, Special, TokenizerJson, TokenizerOptions
from tokpack.tokenizers.acceleration import native_engine
from tokpack.tokenizers.specials import refuse_spelled, spelling_pattern
from tokpack_hf.definition import canonical_digest, find_special_ids
from tokpack_hf.files import TokenizerFiles, find_files
from tokpack_hf.library import ENGINE, Definition, encode_one, encode_side_by_side
from tokpack_hf.spelling import TokenBytes, is_lossless, token_bytes

__all__ = ["HFTokenizer", "open_tokenizer"]

#: Text for one call of the library, whose own records take about a hundred bytes per token.
CALL_BYTES = 1 << 20


def open_tokenizer(model: str, options: TokenizerOptions) -> HFTokenizer:
    """Open ``hf:MODEL``: a ``tokenizer.json``, a folder that holds one, or a model of the hub.

    Raises:
        UsageError: there is no such tokenizer, or ``engine`` is ``native`` and none serves it.
        StorageError: it cannot be read or fetched.
        DamagedError: its files are not what they must be.
        MismatchError: ``engine`` is ``native`` and the engine's ids are not the library's.
    """
    reference = HFTokenizer(find_files(model))
    native = native_engine(
        TokenizerJson(reference.definition.to_json()), reference=reference, engine=options.engine
    )
    return reference if native is None else HFTokenizer(reference.files, native)


class HFTokenizer:
    """A ``tokenizer.json`` and the settings beside it.

    Nothing is added, cut or padded, whatever the file says: see `tokpack.tokenizers.rows` for that. With
    ``native`` that engine encodes, the library does the rest.
    """

    def __init__(self, files: TokenizerFiles, native: NativeEngine | None = None) -> None:
        self.files = files
        self._native = native
        self._process = os.getpid()
        self.definition = Definition(files)
        self._whole = self.definition.open(parse=False)
        self._vocab = self._whole.get_vocab(with_added_tokens=True)
        if not self._vocab:
            raise DamagedError(f"{files.origin} has an empty vocabulary; fetch it again")
        self._added = {
            number: token.content for number, token in self._whole.get_added_tokens_decoder().items()
        }
        special = {
            token.content: number
            for number, token in sorted(self._whole.get_added_tokens_decoder().items())
            if token.special
        }
        self._special = find_special_ids(MappingProxyType(special), self._vocab, self.definition.settings)
        self._spelled = spelling_pattern(special)
        self._dtype = token_dtype(self.vocab_size)

    def __reduce__(self) -> tuple[Any, ...]:
        return (HFTokenizer, (self.files, self._native))

    @cached_property
    def vocab_size(self) -> int:
        """Largest id + 1, added tokens included."""
        return max(self._vocab.values()) + 1

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The added tokens that are marked special."""
        return self._special.tokens

    @property
    def bos_id(self) -> int | None:
        """As ``tokenizer_config.json`` or ``special_tokens_map.json`` say, else by a well-known name."""
        return self._special.bos_id

    @property
    def eos_id(self) -> int | None:
        """As ``tokenizer_config.json`` or ``special_tokens_map.json`` say, else by a well-known name."""
        return self._special.eos_id

    @property
    def pad_id(self) -> int | None:
        """As ``tokenizer_config.json`` or ``special_tokens_map.json`` say, else by a well-known name."""
        return self._special.pad_id

    @property
    def engine(self) -> str:
        """Name and version of the code that encodes."""
        return ENGINE if self._native is None else self._native.name

    @cached_property
    def content_digest(self) -> str:
        """SHA-256 (hex) of vocabulary, merges, added tokens, every step and BOS, EOS, PAD."""
        return canonical_digest(self.definition.with_added_tokens(self._whole), self._special)

    @cached_property
    def lossless(self) -> bool:
        """Whether decoding gives back every text byte for byte."""
        return is_lossless(self.definition.with_added_tokens(self._whole))

    @cached_property
    def template(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids that the file's post-processor puts before and after one document.

        Raises:
            UsageError: it does something else than that.
        """
        library = self.definition.open_with_template()
        found = set()
        for probe in ("a", "b c"):
            plain = library.encode(probe, add_special_tokens=False).ids
            full = library.encode(probe, add_special_tokens=True).ids
            for at in range(len(full) - len(plain) + 1):
                if full[at : at + len(plain)] == plain:
                    found.add((tuple(full[:at]), tuple(full[at + len(plain) :])))
                    break
            else:
                found.clear()
                break
        if len(found) != 1:
            raise UsageError(
                f"the post-processor of {self.files.origin} does not just put tokens around a document; "
                "leave --add-special-tokens out and use --bos and --eos"
            )
        return found.pop()

    @cached_property
    def chat_template(self) -> str | None:
        """Source of the chat template, if the files hold one."""
        return self.files.chat_template()

    @cached_property
    def chat_tokens(self) -> Mapping[str, str]:
        """What a chat template may name: ``bos_token``, ``eos_token`` and so on, with their text."""
        named = {}
        for name, value in self.definition.settings.items():
            text = value.get("content") if isinstance(value, dict) else value
            if name.endswith("_token") and isinstance(text, str):
                named[name] = text
        for name, token_id in (("bos_token", self.bos_id), ("eos_token", self.eos_id)):
            if token_id is not None:
                named.setdefault(name, self._whole.id_to_token(token_id) or "")
        return MappingProxyType(named)

    def encode_batch(self, texts: TextBatch, *, special: Special = "text") -> TokenBatch:
        """Encode each document on its own, adding nothing; tokens have the storage dtype.

        Raises:
            SpecialTokenError: ``special="error"`` and a document spells a special token.
            DocumentError: the library gave up on a document.
        """
        if self._native is not None:
            return self._native.encode_batch(texts, special=special)
        library = self._library(texts, special)
        lengths = np.zeros(len(texts), dtype=np.int64)
        parts = [np.empty(0, dtype=self._dtype)]
        for first, documents in _calls(texts):
            ids = [encoding.ids for encoding in self._encode(library, documents, first)]
            lengths[first : first + len(ids)] = [len(document) for document in ids]
            flat = itertools.chain.from_iterable(ids)
            parts.append(np.fromiter(flat, self._dtype, int(lengths[first : first + len(ids)].sum())))
        tokens = parts[1] if len(parts) == 2 else np.concatenate(parts)
        return TokenBatch(tokens, offsets_from_lengths(lengths, len(texts)))

    def encode_spans(self, texts: TextBatch, *, special: Special = "text") -> TokenBatch:
        """Encode like `encode_batch`, with the bytes of its document that each token stands for.

        The columns ``start`` and ``stop`` are int64, in bytes from the document's beginning. A token that is
        part of a character spans all of it.
        """
        library = self._library(texts, special)
        documents = []
        spans = [np.empty((0, 2), dtype=np.int64)]
        for index, text in enumerate(texts):
            encoding = encode_one(library, text, document=index)
            documents.append(np.array(encoding.ids, dtype=np.uint32))
            spans.append(_byte_spans(texts, index, encoding.offsets))
        batch = TokenBatch.from_documents(documents)
        edges = np.concatenate(spans)
        return TokenBatch(
            batch.tokens.astype(self._dtype), batch.offsets, {"start": edges[:, 0], "stop": edges[:, 1]}
        )

    def decode_bytes(self, tokens: TokenArray | Sequence[int]) -> bytes:
        """Return the bytes that ``tokens`` stand for; special tokens as they are written.

        Raises:
            DamagedError: an id is not in the vocabulary.
        """
        ids = np.asarray(tokens, dtype=np.int64).tolist()
        by_id, size = self._bytes.by_id, self.vocab_size
        pieces = [by_id[token_id] if 0 <= token_id < size else None for token_id in ids]
        if None in pieces:
            raise DamagedError(
                f"token id {ids[pieces.index(None)]:,} is not in the vocabulary of {self.files.origin}; "
                "was the data written with another tokenizer?"
            )
        if self._bytes.joined is None:
            return str(self._whole.decode(ids, skip_special_tokens=False)).encode()
        return self._bytes.joined([piece for piece in pieces if piece is not None])

    def save(self, directory: Path) -> None:
        """Write the files that ``hf:DIRECTORY`` needs, as they were read."""
        self.files.save(directory)

    @cached_property
    def _bytes(self) -> TokenBytes:
        return token_bytes(self.definition.content, self._vocab, self._added, self.vocab_size)

    @cached_property
    def _text(self) -> tokenizers.Tokenizer:
        return self.definition.open_for_text() or self._whole

    @cached_property
    def _parse(self) -> tokenizers.Tokenizer:
        return self.definition.open(parse=True)

    def _library(self, texts: TextBatch, special: Special) -> tokenizers.Tokenizer:
        if special == "error":
            refuse_spelled(texts, self._spelled)
        return self._parse if special == "parse" else self._text

    def _encode(
        self, library: tokenizers.Tokenizer, documents: list[str], first: int
    ) -> list[tokenizers.Encoding]:
        # The library's pool of threads does not survive a fork: a child that touches it waits for ever. And
        # where workers are processes already, threads in each of them would only crowd the machine.
        if os.getpid() == self._process and multiprocessing.parent_process() is None:
            return encode_side_by_side(library, documents, first=first)
        return [encode_one(library, text, document=first + at) for at, text in enumerate(documents)]


def _calls(texts: TextBatch) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the first document and some documents of about CALL_BYTES together."""
    first = 0
    while first < len(texts):
        limit = texts.offsets[first] + CALL_BYTES
        last = max(first + 1, int(np.searchsorted(texts.offsets, limit, side="right")) - 1)
        yield first, [texts[index] for index in range(first, last)]
        first = last


def _byte_spans(texts: TextBatch, index: int, spans: list[tuple[int, int]]) -> NDArray[np.int64]:
    """Turn spans in characters into spans in bytes, both of document ``index``; (tokens, 2)."""
    data = texts.data[texts.offsets[index] : texts.offsets[index + 1]]
    edges = np.append(np.flatnonzero((data & 0xC0) != 0x80), len(data))
    return edges[np.array(spans, dtype=np.int64).reshape(-1, 2)]
