"""A byte-level BPE vocabulary as training makes it: bytes, merges, special tokens, in this order of ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tokpack_bpe import _native

__all__ = ["BYTE_ORDER", "Vocabulary", "mapped"]

#: The bytes of ids 0…255, in GPT-2's order: those that print come first.
BYTE_ORDER: bytes = _native.byte_order()

_PRINTING = 188  # so many bytes stand for themselves in vocab.json and tokenizer.json
_CHARACTER_OF_BYTE = {
    byte: chr(byte if position < _PRINTING else 256 + position - _PRINTING)
    for position, byte in enumerate(BYTE_ORDER)
}


def mapped(token: bytes) -> str:
    """Spell a token with one printing character per byte, as GPT-2's files do (a space is ``Ġ``)."""
    return "".join(map(_CHARACTER_OF_BYTE.__getitem__, token))


@dataclass(frozen=True)
class Vocabulary:
    """Ids 0…255 are the bytes in GPT-2's order, then come the merges, then the special tokens.

    ``merges`` is uint32 of shape (merges, 2): merge ``i`` joins two earlier ids and makes id ``256 + i``.
    """

    pattern: str  # a name in `tokpack_bpe.patterns`
    merges: NDArray[np.uint32]
    special_names: tuple[str, ...]

    @cached_property
    def tokens(self) -> Sequence[bytes]:
        """Bytes of every token but the special ones, by id."""
        tokens = [bytes([byte]) for byte in BYTE_ORDER]
        for left, right in self.merges.tolist():
            tokens.append(tokens[left] + tokens[right])
        return tokens

    @property
    def special_tokens(self) -> dict[str, int]:
        """Special tokens and their ids."""
        return {name: len(self.tokens) + i for i, name in enumerate(self.special_names)}

    @property
    def vocab_size(self) -> int:
        """Largest id + 1."""
        return len(self.tokens) + len(self.special_names)
