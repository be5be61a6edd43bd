"""The native engine behind tokpack's contract: whole batches in, flat arrays out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import TextBatch, TokenBatch
from tokpack.dtypes import TokenArray, token_dtype
from tokpack.errors import DamagedError, SpecialTokenError
from tokpack.protocols import Special
from tokpack_bpe import _native
from tokpack_bpe.definition import Definition, flat

__all__ = ["BpeTokenizer"]

#: Text that the stream gathers before it looks for a place to cut.
_STREAM_BYTES = 1 << 18


class BpeTokenizer:
    """A byte-level BPE tokenizer: both a `Tokenizer` and the `NativeEngine` of other backends.

    Thread-safe: every call takes caches of its own from a pool that is the engine's. Picklable: the copy
    builds its tables anew. Safe after a fork: there are no threads between calls and no locks.
    """

    def __init__(self, definition: Definition) -> None:
        """Build the tables.

        Raises:
            DamagedError: the vocabulary is not one; names the token or merge.
        """
        self.definition = definition
        by_id = definition.bytes_by_id()
        self.vocab_size = max(by_id) + 1 if by_id else 0
        if not self.vocab_size:
            raise DamagedError(f"{definition.origin} has an empty vocabulary; is the file whole?")
        self.dtype = token_dtype(self.vocab_size)
        try:
            self._native = _open_native(definition, narrow=self.dtype.itemsize == 2)
        except _native.VocabularyError as error:
            raise DamagedError(f"{definition.origin}: {error}; is the file whole?") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return (BpeTokenizer, (self.definition,))

    @cached_property
    def _decoder(self) -> _native.Decoder:
        by_id = self.definition.bytes_by_id()
        return _native.Decoder(*flat(list(by_id.values())), np.array(list(by_id), dtype=np.uint32))

    @property
    def name(self) -> str:
        """Name and version of the engine."""
        return f"tokpack-bpe {version('tokpack-bpe')}"

    @property
    def engine(self) -> str:
        """Name and version of the code that encodes."""
        return self.name

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Special tokens and their ids."""
        return MappingProxyType(self.definition.special_tokens)

    @property
    def bos_id(self) -> int | None:
        """As the settings beside the file say, else by a well-known name."""
        return self.definition.special_ids.bos_id

    @property
    def eos_id(self) -> int | None:
        """As the settings beside the file say, else by a well-known name."""
        return self.definition.special_ids.eos_id

    @property
    def pad_id(self) -> int | None:
        """As the settings beside the file say, else by a well-known name."""
        return self.definition.special_ids.pad_id

    @property
    def lossless(self) -> bool:
        """Whether decoding gives back every text byte for byte."""
        return not self.definition.drop_missing and not self.definition.nfc

    @cached_property
    def content_digest(self) -> str:
        """SHA-256 (hex) of all that decides ids; equal for every file layout of one tokenizer."""
        return self.definition.digest(*self._native.rules())

    def encode_batch(self, texts: TextBatch, *, special: Special = "text", threads: int = 1) -> TokenBatch:
        """Encode each document on its own, adding nothing; tokens have the storage dtype.

        Raises:
            SpecialTokenError: ``special="error"`` and a document spells a special token.
        """
        try:
            return TokenBatch(*self._native.encode(texts.data, texts.offsets, special, threads))
        except _native.SpecialFoundError as error:
            raise _spelled(error) from None

    def encode_texts(
        self, texts: Sequence[str], *, special: Special = "text", threads: int = 1
    ) -> TokenBatch:
        """Encode strings, without packing them first.

        Raises:
            SpecialTokenError: ``special="error"`` and a text spells a special token.
            UnicodeEncodeError: a text holds a lone surrogate.
        """
        try:
            return TokenBatch(*self._native.encode_texts(texts, special, threads))
        except _native.SpecialFoundError as error:
            raise _spelled(error) from None

    def count_tokens(self, texts: TextBatch, *, special: Special = "text") -> NDArray[np.int64]:
        """Return how many tokens each document has, int64 of shape (documents,), without keeping them."""
        try:
            return self._native.count(texts.data, texts.offsets, special)
        except _native.SpecialFoundError as error:
            raise _spelled(error) from None

    def encode_stream(self, parts: Iterable[str], *, special: Special = "text") -> Iterator[TokenArray]:
        """Encode one document that comes in parts, cut anywhere, and yield its tokens as they are settled.

        Joined, they are the tokens of the joined text. Memory follows the longest stretch of text without a
        single space or new line between words.

        Raises:
            SpecialTokenError: ``special="error"`` and the text spells a special token.
        """
        held = bytearray()
        wanted = _STREAM_BYTES
        for part in parts:
            held += part.encode()
            if len(held) < wanted:
                continue
            cut = self._native.last_safe_cut(np.frombuffer(held, dtype=np.uint8))
            if cut:
                yield self._encode_bytes(bytes(held[:cut]), special)
                del held[:cut]
            # A stretch without a cut is not searched again before it has doubled.
            wanted = max(_STREAM_BYTES, 2 * len(held))
        yield self._encode_bytes(bytes(held), special)

    def _encode_bytes(self, text: bytes, special: Special) -> TokenArray:
        return self.encode_batch(TextBatch.from_utf8([text]), special=special).tokens

    def decode_bytes(self, tokens: TokenArray | Sequence[int]) -> bytes:
        """Return the bytes that ``tokens`` stand for.

        Raises:
            DamagedError: an id is not in the vocabulary.
        """
        try:
            return self._decoder.decode(self._ids(tokens))
        except _native.UnknownIdError as error:
            raise self._unknown(error) from None

    def decode_batch(self, tokens: TokenBatch) -> TextBatch:
        """Return the bytes of each document. They are not checked to be UTF-8.

        Raises:
            DamagedError: an id is not in the vocabulary.
        """
        try:
            return TextBatch(*self._decoder.decode_batch(self._ids(tokens.tokens), tokens.offsets))
        except _native.UnknownIdError as error:
            raise self._unknown(error) from None

    def save(self, directory: Path) -> None:
        """Write the files that ``bpe:DIRECTORY`` needs, as they were read."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in self.definition.files.items():
            (directory / name).write_bytes(content)

    def _ids(self, tokens: TokenArray | Sequence[int]) -> TokenArray:
        ids = np.asarray(tokens)
        if ids.dtype in (np.uint16, np.uint32):
            return np.ascontiguousarray(ids)
        if ids.size and (ids.dtype.kind not in "iu" or not 0 <= int(ids.min()) <= int(ids.max()) < 2**32):
            raise self._unknown(f"token ids {ids.min()} to {ids.max()} are not all in the vocabulary")
        return ids.astype(np.uint32)

    def _unknown(self, error: object) -> DamagedError:
        origin = self.definition.origin
        return DamagedError(f"{error}: {origin}; was the data written with another tokenizer?")


def _open_native(definition: Definition, *, narrow: bool) -> _native.Engine16 | _native.Engine32:
    data, offsets = flat(list(definition.tokens))
    engine = _native.Engine16 if narrow else _native.Engine32
    return engine(
        data=data,
        offsets=offsets,
        ids=np.fromiter(definition.tokens.values(), dtype=np.uint32, count=len(definition.tokens)),
        merges=definition.merges,
        whole_words=definition.whole_words,
        drop_missing=definition.drop_missing,
        pattern=definition.pattern,
        nfc=definition.nfc,
        raw_tokens=[
            (t.content.encode(), t.token_id, t.special) for t in definition.added if not t.normalized
        ],
        normalized_tokens=[
            (t.content.encode(), t.token_id, t.special) for t in definition.added if t.normalized
        ],
    )


def _spelled(error: _native.SpecialFoundError) -> SpecialTokenError:
    token, document = error.args
    return SpecialTokenError(
        f"document {document} of the batch spells the special token {token!r}; "
        "clean the text, or choose --special text or parse",
        document=document,
    )
