"""How well a tokenizer fits a text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tokpack.batches import TextBatch
from tokpack.protocols import Tokenizer

__all__ = ["Quality", "longest_tokens", "measure"]


@dataclass(frozen=True, slots=True)
class Quality:
    """What encoding a text showed."""

    text_bytes: int
    tokens: int
    ids_used: int  # different ids that occurred
    vocab_size: int

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of text per token: the higher, the shorter the training rows."""
        return self.text_bytes / max(1, self.tokens)

    @property
    def coverage(self) -> float:
        """Share of the vocabulary that occurred."""
        return self.ids_used / max(1, self.vocab_size)


def measure(tokenizer: Tokenizer, batches: Iterable[TextBatch]) -> Quality:
    """Encode documents and count what comes out."""
    seen = np.zeros(tokenizer.vocab_size, dtype=np.bool_)
    text_bytes = tokens = 0
    for batch in batches:
        encoded = tokenizer.encode_batch(batch)
        seen[encoded.tokens] = True
        text_bytes += batch.nbytes
        tokens += len(encoded.tokens)
    return Quality(text_bytes, tokens, int(seen.sum()), tokenizer.vocab_size)


def longest_tokens(tokenizer: Tokenizer, count: int = 10) -> list[tuple[int, bytes]]:
    """Return the ``count`` longest tokens with their ids, longest first; special tokens are left out."""
    special = set(tokenizer.special_tokens.values())
    ordinary = [token_id for token_id in range(tokenizer.vocab_size) if token_id not in special]
    spelled = [(token_id, tokenizer.decode_bytes([token_id])) for token_id in ordinary]
    return sorted(spelled, key=lambda entry: (-len(entry[1]), entry[0]))[:count]
