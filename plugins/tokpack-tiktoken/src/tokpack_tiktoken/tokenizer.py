"""``tiktoken:``: the tiktoken library behind tokpack's contract."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import tiktoken

from tokpack.batches import TextBatch, TokenBatch, offsets_from_lengths
from tokpack.dtypes import TokenArray
from tokpack.errors import DamagedError, DocumentError
from tokpack.protocols import NativeEngine, Special, TiktokenModel, TokenizerOptions
from tokpack.tokenizers.acceleration import native_engine
from tokpack.tokenizers.specials import refuse_spelled, spelling_pattern
from tokpack_tiktoken.definition import Definition
from tokpack_tiktoken.files import load_definition, save_definition
from tokpack_tiktoken.names import definition_by_name, encoding_name

__all__ = ["TiktokenTokenizer", "open_tokenizer"]


def open_tokenizer(model: str, options: TokenizerOptions) -> TiktokenTokenizer:
    """Open ``tiktoken:MODEL``: an encoding, a model that uses one, a ranks file, or a folder of `save`.

    Raises:
        UsageError: there is nothing of that name, or ``engine`` is ``native`` and none serves it.
        StorageError: it cannot be read or fetched.
        DamagedError: its files are not what they must be.
        MismatchError: ``engine`` is ``native`` and the engine's ids are not tiktoken's.
    """
    is_path = model and encoding_name(model) is None and (Path(model).exists() or _looks_like_path(model))
    definition = load_definition(Path(model)) if is_path else definition_by_name(model)
    reference = TiktokenTokenizer(definition)
    description = TiktokenModel(definition.pattern, definition.ranks, definition.special_tokens)
    native = native_engine(description, reference=reference, engine=options.engine)
    return reference if native is None else TiktokenTokenizer(definition, native)


def _looks_like_path(model: str) -> bool:
    return os.sep in model or "/" in model or model.endswith((".tiktoken", ".json"))


class TiktokenTokenizer:
    """An encoding of tiktoken; with ``native`` that engine encodes. Implements `tokpack.protocols.Tokenizer`.

    Pickles by content, so that a worker needs neither the file nor the network.
    """

    def __init__(self, definition: Definition, native: NativeEngine | None = None) -> None:
        self._definition = definition
        self._native = native
        self._spelled = spelling_pattern(definition.special_tokens)

    def __reduce__(self) -> tuple[Any, ...]:
        return (TiktokenTokenizer, (self._definition, self._native))

    @cached_property
    def vocab_size(self) -> int:
        """Largest id + 1, special tokens included."""
        return self._definition.vocab_size

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Special tokens and their ids."""
        return MappingProxyType(self._definition.special_tokens)

    @property
    def bos_id(self) -> int | None:
        """OpenAI's encodings have none; a file's may."""
        return self._definition.special_id(self._definition.bos_token)

    @property
    def eos_id(self) -> int | None:
        """The id of ``<|endoftext|>``, unless a file says otherwise."""
        return self._definition.special_id(self._definition.eos_token)

    @property
    def pad_id(self) -> int | None:
        """OpenAI's encodings have none; a file's may."""
        return self._definition.special_id(self._definition.pad_token)

    @property
    def engine(self) -> str:
        """Name and version of the code that encodes."""
        return f"tiktoken {tiktoken.__version__}" if self._native is None else self._native.name

    @property
    def unicode_version(self) -> str:
        """Version of the Unicode tables behind the split pattern."""
        return unicode_version()

    @property
    def content_digest(self) -> str:
        """SHA-256 (hex) of ranks, pattern and special tokens, wherever they were found."""
        return self._definition.digest

    def encode_batch(self, texts: TextBatch, *, special: Special = "text") -> TokenBatch:
        """Encode each document on its own, adding nothing; tokens are uint32.

        Raises:
            SpecialTokenError: ``special="error"`` and a document spells a special token.
            DocumentError: tiktoken gave up on a document.
        """
        if self._native is not None:
            return self._native.encode_batch(texts, special=special)
        if special == "error":
            refuse_spelled(texts, self._spelled)
        allowed = self._encoding.special_tokens_set if special == "parse" else set[str]()
        documents = []
        for index, text in enumerate(texts):
            try:
                ids = self._encoding.encode_to_numpy(text, allowed_special=allowed, disallowed_special=())
            # A long run of spaces can exhaust the regular expression's stack, which is a ValueError; and what
            # panics in Rust arrives as a PanicException, which is no Exception and has no public name.
            except BaseException as error:
                if not isinstance(error, ValueError) and type(error).__name__ != "PanicException":
                    raise
                raise DocumentError(_gave_up(texts, index, error)) from error
            documents.append(ids)
        lengths = offsets_from_lengths(map(len, documents), len(documents))
        tokens = np.concatenate(documents) if documents else np.empty(0, dtype=np.uint32)
        return TokenBatch(tokens, lengths)

    def decode_bytes(self, tokens: TokenArray | Sequence[int]) -> bytes:
        """Return the bytes that ``tokens`` stand for; special tokens as they are written.

        Raises:
            DamagedError: an id is not in the vocabulary.
        """
        ids = tokens.tolist() if isinstance(tokens, np.ndarray) else list(tokens)
        try:
            return self._encoding.decode_bytes(ids)
        except (KeyError, OverflowError) as error:
            known = {*self._definition.ranks.values(), *self._definition.special_tokens.values()}
            unknown = next((token_id for token_id in ids if token_id not in known), error)
            raise DamagedError(
                f"token id {unknown} is not in the vocabulary of {self._definition.origin}; "
                "was the data written with another tokenizer?"
            ) from error

    def save(self, directory: Path) -> None:
        """Write ``tiktoken.json`` and ``ranks.tiktoken``, which ``tiktoken:DIRECTORY`` opens offline."""
        save_definition(self._definition, directory)

    @cached_property
    def _encoding(self) -> tiktoken.Encoding:
        definition = self._definition
        try:
            return tiktoken.Encoding(
                definition.origin,
                pat_str=definition.pattern,
                mergeable_ranks=dict(definition.ranks),
                special_tokens=dict(definition.special_tokens),
            )
        except ValueError as error:
            raise DamagedError(
                f"{definition.origin}: its pattern is no regular expression for tiktoken: {error}"
            ) from error


def _gave_up(texts: TextBatch, index: int, error: BaseException) -> str:
    size = int(texts.offsets[index + 1] - texts.offsets[index])
    begin = texts[index][:40]
    return (
        f"tiktoken gave up on document {index} of the batch ({size:,} bytes, it begins with {begin!r}): "
        f"{error}; use the native engine (pip install tokpack-bpe), or shorten its runs of equal characters"
    )


@cache
def unicode_version() -> str:
    """Return the Unicode version of tiktoken's ``\\p{L}``, found by asking it for letters new in each."""
    newest = "13 or older"
    letters = {"14": "\U00010570", "15": "\U00011f04", "15.1": "\U0002ebf0", "16": "\U000105c0"}
    for version, letter in {**letters, "17": "\U00016ea0"}.items():
        # The last byte and an "a" merge only inside one piece, so only if the character is a letter.
        merged = letter.encode()[-1:] + b"a"
        ranks = {bytes([byte]): byte for byte in range(256)} | {merged: 256}
        splitter = tiktoken.Encoding("", pat_str=r"\p{L}+|\P{L}", mergeable_ranks=ranks, special_tokens={})
        if 256 in splitter.encode_ordinary(letter + "a"):
            newest = version
    return newest
