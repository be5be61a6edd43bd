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
from tokpack.errors import DamagedError, DocumentError, UsageError
from tokpack.protocols import Special, TokenizerOptions
from tokpack.tokenizers.specials import refuse_spelled, spelling_pattern
from tokpack_hf.definition import SpecialIds, canonical_digest, check_definition, find_special_ids
from tokpack_hf.files import TokenizerFiles, decode_object, find_files
from tokpack_hf.spelling import TokenBytes, is_lossless, token_bytes

__all__ = ["HFTokenizer", "open_tokenizer"]

#: Documents for one call of the library, whose own records take about a hundred bytes per token.
BATCH_BYTES = 1 << 20


def open_tokenizer(model: str, options: TokenizerOptions) -> HFTokenizer:
    """Open ``hf:MODEL``: a ``tokenizer.json``, a folder that holds one, or a model of the hub.

    Raises:
        UsageError: there is no such tokenizer, or it is asked for with an engine that cannot serve it.
        StorageError: it cannot be read or fetched.
        DamagedError: its files are not what they must be.
    """
    if options.engine == "native":
        raise UsageError(f"the native engine does not serve hf:{model}; use --engine auto or reference")
    return HFTokenizer(find_files(model))


class HFTokenizer:
    """A ``tokenizer.json`` and the settings beside it.

    Nothing is added, cut or padded, whatever the file says: see `tokpack.tokenizers.rows` for that.
    """

    def __init__(self, files: TokenizerFiles) -> None:
        self._files = files
        self._process = os.getpid()
        self._definition = decode_object(files.definition, files.origin)
        check_definition(self._definition, files.origin)
        settings = files.settings()
        self._extra = _tokens_of_settings(settings)
        self._text = self._open(parse=False)
        vocab = self._text.get_vocab(with_added_tokens=True)
        added = self._text.get_added_tokens_decoder()
        special = {token.content: token_id for token_id, token in sorted(added.items()) if token.special}
        self._special = find_special_ids(MappingProxyType(special), vocab, settings)
        self._vocab_size = max(vocab.values(), default=-1) + 1
        if not self._vocab_size:
            raise DamagedError(f"{files.origin} has an empty vocabulary; fetch it again")
        self._spelled = spelling_pattern(special)

    def __reduce__(self) -> tuple[Any, ...]:
        return (HFTokenizer, (self._files,))

    @property
    def vocab_size(self) -> int:
        """Largest id + 1, added tokens included."""
        return self._vocab_size

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The added tokens that are marked special."""
        return self._special.tokens

    @property
    def bos_id(self) -> int | None:
        """As ``tokenizer_config.json`` or ``special_tokens_map.json`` say, else a well-known name."""
        return self._special.bos_id

    @property
    def eos_id(self) -> int | None:
        """As ``tokenizer_config.json`` or ``special_tokens_map.json`` say, else a well-known name."""
        return self._special.eos_id

    @property
    def pad_id(self) -> int | None:
        """As ``tokenizer_config.json`` or ``special_tokens_map.json`` say, else a well-known name."""
        return self._special.pad_id

    @property
    def engine(self) -> str:
        """The library and its version."""
        return f"tokenizers {tokenizers.__version__}"

    @cached_property
    def content_digest(self) -> str:
        """SHA-256 (hex) of vocabulary, merges, added tokens, every step of the pipeline, and BOS, EOS, PAD."""
        added = [
            {"id": token_id, **_added_token(token)}
            for token_id, token in self._text.get_added_tokens_decoder().items()
        ]
        return canonical_digest({**self._definition, "added_tokens": added}, self._special)

    @cached_property
    def lossless(self) -> bool:
        """Whether decoding gives back every text byte for byte, as far as the definition tells."""
        return is_lossless(self._definition)

    @cached_property
    def template(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids that the file's post-processor puts before and after one document.

        Raises:
            UsageError: it does something else than that.
        """
        library = self._library(self._files.definition)
        found = set()
        for probe in ("a", "b c"):
            plain = library.encode(probe, add_special_tokens=False).ids
            full = library.encode(probe, add_special_tokens=True).ids
            start = next((at for at in range(len(full)) if full[at : at + len(plain)] == plain), None)
            if start is None:
                break
            found.add((tuple(full[:start]), tuple(full[start + len(plain) :])))
        if len(found) != 1:
            raise UsageError(
                f"the post-processor of {self._files.origin} does not just put tokens around a document; "
                "leave --add-special-tokens out and use --bos and --eos"
            )
        return found.pop()

    @cached_property
    def chat_template(self) -> str | None:
        """Source of the chat template, if the files hold one."""
        return self._files.chat_template()

    @cached_property
    def chat_tokens(self) -> Mapping[str, str]:
        """What a chat template may name: ``bos_token``, ``eos_token`` and so on, with their text."""
        named = {}
        for name, value in self._files.settings().items():
            text = value.get("content") if isinstance(value, dict) else value
            if name.endswith("_token") and isinstance(text, str):
                named[name] = text
        for name, token_id in (("bos_token", self.bos_id), ("eos_token", self.eos_id)):
            if token_id is not None:
                named.setdefault(name, self._text.id_to_token(token_id) or "")
        return MappingProxyType(named)

    def encode_batch(self, texts: TextBatch, *, special: Special = "text") -> TokenBatch:
        """Encode each document on its own, adding nothing.

        Raises:
            SpecialTokenError: ``special="error"`` and a document spells a special token.
            DocumentError: the library gave up on a document.
        """
        if special == "error":
            refuse_spelled(texts, self._spelled)
        library = self._parse if special == "parse" else self._text
        lengths = np.zeros(len(texts), dtype=np.int64)
        parts = []
        for first, documents in _groups(texts):
            encodings = self._encode(library, documents, first)
            ids = [encoding.ids for encoding in encodings]
            lengths[first : first + len(ids)] = [len(document) for document in ids]
            parts.append(_flat(ids, token_dtype(self._vocab_size)))
        return TokenBatch(
            _joined(parts, token_dtype(self._vocab_size)), offsets_from_lengths(lengths, len(texts))
        )

    def encode_spans(self, texts: TextBatch, *, special: Special = "text") -> TokenBatch:
        """Encode like `encode_batch`, with the bytes of its document that each token stands for.

        The columns ``start`` and ``stop`` are int64, in bytes from the document's beginning. A token that is
        part of a character spans all of it.
        """
        if special == "error":
            refuse_spelled(texts, self._spelled)
        library = self._parse if special == "parse" else self._text
        documents = []
        spans: list[NDArray[np.int64]] = []
        for index, text in enumerate(texts):
            encoding = self._one(library, text, index)
            documents.append(np.array(encoding.ids, dtype=np.uint32))
            spans.append(_byte_spans(texts, index, encoding.offsets))
        batch = TokenBatch.from_documents(documents)
        edges = np.concatenate(spans) if spans else np.empty((0, 2), dtype=np.int64)
        return TokenBatch(batch.tokens, batch.offsets, {"start": edges[:, 0], "stop": edges[:, 1]})

    def decode_bytes(self, tokens: TokenArray | Sequence[int]) -> bytes:
        """Return the bytes that ``tokens`` stand for; special tokens as they are written.

        Raises:
            DamagedError: an id is not in the vocabulary.
        """
        ids = [int(token_id) for token_id in tokens]
        held = self._bytes.by_id
        for token_id in ids:
            if not 0 <= token_id < len(held) or held[token_id] is None:
                raise DamagedError(
                    f"token id {token_id:,} is not in the vocabulary of {self._files.origin}; "
                    "was the data written with another tokenizer?"
                )
        if self._bytes.joined is None:
            return str(self._text.decode(ids, skip_special_tokens=False)).encode()
        return self._bytes.joined([held[token_id] or b"" for token_id in ids])

    def save(self, directory: Path) -> None:
        """Write the files that ``hf:DIRECTORY`` needs, as they were read."""
        self._files.save(directory)

    @cached_property
    def _bytes(self) -> TokenBytes:
        added = {token_id: token.content for token_id, token in self._text.get_added_tokens_decoder().items()}
        vocab = self._text.get_vocab(with_added_tokens=True)
        return token_bytes(self._definition, vocab, added, self._vocab_size)

    @cached_property
    def _parse(self) -> tokenizers.Tokenizer:
        # A second one: whether special tokens are parsed is a setting of the object, and threads share it.
        return self._open(parse=True)

    def _open(self, *, parse: bool) -> tokenizers.Tokenizer:
        library = self._library(self._files.definition)
        # Nothing is added here, and without a post-processor offsets stay those of the text.
        library.post_processor = None
        library.encode_special_tokens = not parse
        return library

    def _library(self, definition: bytes) -> tokenizers.Tokenizer:
        origin = self._files.origin
        try:
            library = tokenizers.Tokenizer.from_buffer(definition)
        except BaseException as error:  # a panic of the library is no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise DamagedError(
                f"tokenizers {tokenizers.__version__} cannot open {origin}: {error}; check the file"
            ) from None
        library.no_truncation()
        library.no_padding()
        if getattr(library.model, "dropout", None) is not None:
            library.model.dropout = None
        for token_id, token in self._extra.items():
            if library.token_to_id(token.content) is None or token.special:
                library.add_tokens([token])
            if library.token_to_id(token.content) != token_id:
                raise DamagedError(
                    f"{origin}: the settings give {token.content!r} the id {token_id}, the tokenizer "
                    f"{library.token_to_id(token.content)}; fetch both files of one revision"
                )
        return library

    def _encode(
        self, library: tokenizers.Tokenizer, documents: list[str], first: int
    ) -> list[tokenizers.Encoding]:
        if not self._may_use_threads():
            return [self._one(library, text, first + index) for index, text in enumerate(documents)]
        try:
            return list(library.encode_batch_fast(documents, add_special_tokens=False))
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            # One by one names the document, if it is one that the library gives up on.
            return [self._one(library, text, first + index) for index, text in enumerate(documents)]

    def _one(self, library: tokenizers.Tokenizer, text: str, document: int) -> tokenizers.Encoding:
        try:
            return library.encode(text, add_special_tokens=False)
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise DocumentError(
                f"{self.engine} gave up on document {document} of the batch: {error}; leave the document out, "
                f"or check the patterns in {self._files.origin}"
            ) from None

    def _may_use_threads(self) -> bool:
        # The library's pool of threads does not survive a fork: a child that touches it waits for ever. And
        # where workers are processes already, threads in each of them would only crowd the machine.
        return os.getpid() == self._process and multiprocessing.parent_process() is None


def _tokens_of_settings(settings: Mapping[str, Any]) -> dict[int, tokenizers.AddedToken]:
    listed = settings.get("added_tokens_decoder")
    if not isinstance(listed, dict):
        return {}
    tokens = {}
    for token_id, token in listed.items():
        if isinstance(token, dict) and token_id.isdecimal() and isinstance(token.get("content"), str):
            flags = {name: bool(token.get(name, False)) for name in _FLAGS if name in token}
            tokens[int(token_id)] = tokenizers.AddedToken(token["content"], **flags)
    return dict(sorted(tokens.items()))


_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def _added_token(token: tokenizers.AddedToken) -> dict[str, Any]:
    return {"content": token.content} | {name: getattr(token, name) for name in _FLAGS}


def _groups(texts: TextBatch) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the first document and the documents, by about BATCH_BYTES."""
    first = 0
    while first < len(texts):
        limit = texts.offsets[first] + BATCH_BYTES
        last = max(first + 1, int(np.searchsorted(texts.offsets, limit, side="right")) - 1)
        yield first, [texts[index] for index in range(first, last)]
        first = last


def _flat(ids: list[list[int]], dtype: np.dtype[Any]) -> TokenArray:
    return np.fromiter(itertools.chain.from_iterable(ids), dtype, sum(map(len, ids)))


def _joined(parts: list[TokenArray], dtype: np.dtype[Any]) -> TokenArray:
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype), *parts])


def _byte_spans(texts: TextBatch, index: int, spans: list[tuple[int, int]]) -> NDArray[np.int64]:
    """Turn spans in characters into spans in bytes, both of document ``index``; (tokens, 2)."""
    data = texts.data[texts.offsets[index] : texts.offsets[index + 1]]
    edges = np.append(np.flatnonzero((data & 0xC0) != 0x80), len(data))
    return edges[np.array(spans, dtype=np.int64).reshape(-1, 2)]
