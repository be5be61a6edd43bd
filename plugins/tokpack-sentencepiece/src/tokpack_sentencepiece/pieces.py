"""The bytes behind each piece, joined as the library's decoder joins them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sentencepiece

from tokpack_sentencepiece.model import ModelFacts

__all__ = ["PieceBytes"]

_SPACE = "▁"


@dataclass(frozen=True, slots=True)
class PieceBytes:
    """What every id stands for."""

    by_id: list[bytes]
    control: frozenset[int]  # ids that the library's decoder leaves out
    spaced: frozenset[int]  # ids whose first character is the model's sign for a space
    facts: ModelFacts

    @classmethod
    def of(
        cls, library: sentencepiece.SentencePieceProcessor, pieces: Sequence[str], facts: ModelFacts
    ) -> PieceBytes:
        """Work out the bytes of all ``pieces`` of a model."""
        by_id, control, spaced = [], set(), set()
        for token_id, piece in enumerate(pieces):
            if library.is_control(token_id):
                control.add(token_id)
                by_id.append(piece.encode())
            elif library.is_byte(token_id):
                by_id.append(bytes([int(piece[3:-1], 16)]))
            elif library.is_unknown(token_id):
                by_id.append(facts.unk_surface)
            else:
                if piece.startswith(_SPACE):
                    spaced.add(token_id)
                by_id.append(piece.replace(_SPACE, " ").encode())
        return cls(by_id, frozenset(control), frozenset(spaced), facts)

    def join(self, tokens: Iterable[int]) -> bytes:
        """Return the bytes of ids that are known to be in range; control pieces as they are written.

        The space that the model puts before a document is taken away again.
        """
        parts = []
        at_start = self.facts.add_dummy_prefix or self.facts.remove_extra_whitespaces
        for token_id in tokens:
            part = self.by_id[token_id]
            if at_start and token_id not in self.control:
                if token_id in self.spaced:
                    part = part[1:]
                # Where the model removes white space, all of it at the beginning came from the model.
                at_start = self.facts.remove_extra_whitespaces and not part
            parts.append(part)
        return b"".join(parts)
