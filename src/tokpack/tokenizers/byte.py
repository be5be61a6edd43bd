"""The byte tokenizer: each byte of UTF-8 is its own id, and ``<|endoftext|>`` is id 256."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from tokpack.batches import TextBatch, TokenBatch
from tokpack.dtypes import TokenArray
from tokpack.errors import DamagedError, SpecialTokenError, UsageError
from tokpack.protocols import Special, Tokenizer, TokenizerOptions

__all__ = ["ByteTokenizer", "open_tokenizer"]

END_OF_TEXT = "<|endoftext|>"
_SPECIAL = re.compile(re.escape(END_OF_TEXT.encode()))
_EOS_ID = 256


def open_tokenizer(model: str, options: TokenizerOptions) -> Tokenizer:
    """Return the byte tokenizer; the reference is ``byte`` alone, or names a folder that `save` wrote.

    Raises:
        UsageError: ``model`` is something else, or the native engine is asked for.
    """
    if model and not Path(model).is_dir():
        raise UsageError(f"the byte tokenizer has no model {model!r}; the reference is: byte")
    if options.engine == "native":
        raise UsageError("the byte tokenizer has no native engine; leave --engine out")
    return ByteTokenizer()


@dataclass(frozen=True, slots=True)
class ByteTokenizer:
    """Implements `tokpack.protocols.Tokenizer` with 257 ids; tokens are uint16."""

    @property
    def vocab_size(self) -> int:
        """256 bytes and ``<|endoftext|>``."""
        return 257

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """``<|endoftext|>``, id 256."""
        return MappingProxyType({END_OF_TEXT: _EOS_ID})

    @property
    def bos_id(self) -> None:
        """There is none."""
        return

    @property
    def eos_id(self) -> int:
        """Id 256, ``<|endoftext|>``."""
        return _EOS_ID

    @property
    def pad_id(self) -> None:
        """There is none."""
        return

    @property
    def engine(self) -> str:
        """Name and version of the code that encodes."""
        return "tokpack.byte 1"

    @property
    def content_digest(self) -> str:
        """SHA-256 of a sentence that says all there is to say."""
        return hashlib.sha256(b"byte: ids 0-255 are bytes, 256 is <|endoftext|>").hexdigest()

    def encode_batch(self, texts: TextBatch, *, special: Special = "text") -> TokenBatch:
        """Encode each document on its own, adding nothing."""
        tokens = texts.data.astype(np.uint16)
        found = [] if special == "text" else _special_positions(texts)
        if not found:
            return TokenBatch(tokens, texts.offsets)
        if special == "error":
            document = int(np.searchsorted(texts.offsets, found[0], side="right")) - 1
            raise SpecialTokenError(
                f"a document spells the special token {END_OF_TEXT}; use --special text or parse",
                document=document,
            )
        starts = np.array(found, dtype=np.int64)
        keep = np.ones(len(tokens), dtype=np.bool_)
        for shift in range(1, len(END_OF_TEXT)):
            keep[starts + shift] = False
        tokens[starts] = _EOS_ID
        removed = (len(END_OF_TEXT) - 1) * np.searchsorted(starts, texts.offsets)
        return TokenBatch(tokens[keep], texts.offsets - removed)

    def decode_bytes(self, tokens: TokenArray | Sequence[int]) -> bytes:
        """Return the bytes that ``tokens`` stand for."""
        ids = np.asarray(tokens, dtype=np.int64)
        if ids.size and (ids.min() < 0 or ids.max() > _EOS_ID):
            bad = ids[(ids < 0) | (ids > _EOS_ID)][0]
            raise DamagedError(f"token id {bad:,} is not in the vocabulary of the byte tokenizer (0 to 256)")
        ends = np.flatnonzero(ids == _EOS_ID)
        pieces = np.split(ids, ends)  # from the second on, each begins with an end of text
        head, *tails = (piece.astype(np.uint8) for piece in pieces)
        return b"".join([head.tobytes(), *(END_OF_TEXT.encode() + tail[1:].tobytes() for tail in tails)])

    def save(self, directory: Path) -> None:
        """Leave a note; there is nothing to save."""
        (directory / "byte.txt").write_text("ids 0 to 255 are the bytes, 256 is <|endoftext|>\n")


def _special_positions(texts: TextBatch) -> list[int]:
    """Return where the special token is spelled inside one document, as offsets into ``texts.data``."""
    found = []
    for match in _SPECIAL.finditer(texts.data.data):
        after = int(np.searchsorted(texts.offsets, match.start(), side="right"))
        if match.end() <= texts.offsets[after]:
            found.append(match.start())
    return found
