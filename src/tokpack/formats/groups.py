"""Gathering documents into groups of a wanted size, however they arrive in batches.

Columnar formats write in groups. Where a group ends must depend on the documents alone, or the bytes of a
file would depend on how the encoder happened to batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tokpack.batches import TokenBatch, offsets_from_lengths
from tokpack.errors import DocumentError

__all__ = ["MAX_GROUP_TOKENS", "Groups"]

#: With neither a group nor a document above this, list offsets fit 32 bits whatever the last document adds.
MAX_GROUP_TOKENS = 1 << 30
_MAX_DOCUMENTS = 1 << 18


class Groups:
    """Hands out groups that end at the first document boundary at or after ``tokens`` tokens.

    A group also ends after 262,144 documents, so that empty ones do not pile up.
    """

    def __init__(self, tokens: int, *, max_tokens: int = MAX_GROUP_TOKENS) -> None:
        self._tokens = tokens
        self._max_tokens = max_tokens
        self._parts: list[TokenBatch] = []
        self._held_tokens = self._held_documents = 0

    def add(self, batch: TokenBatch) -> Iterator[TokenBatch]:
        """Take documents and yield the groups that they complete.

        Raises:
            DocumentError: a document has more tokens than a list with 32-bit offsets can hold.
        """
        if len(batch) and (longest := int(batch.lengths.max())) > self._max_tokens:
            raise DocumentError(
                f"a document of {longest:,} tokens is longer than a list may be ({self._max_tokens:,}); "
                "use --format bin, or split it before encoding"
            )
        start = 0
        while start < len(batch):
            wanted = int(batch.offsets[start]) + self._tokens - self._held_tokens
            stop = max(int(np.searchsorted(batch.offsets, wanted, side="left")), start + 1)
            stop = min(stop, len(batch), start + _MAX_DOCUMENTS - self._held_documents)
            self._parts.append(_part(batch, start, stop))
            self._held_tokens += int(batch.offsets[stop] - batch.offsets[start])
            self._held_documents += stop - start
            start = stop
            if self._held_tokens >= self._tokens or self._held_documents >= _MAX_DOCUMENTS:
                yield self._take()

    def rest(self) -> TokenBatch | None:
        """Return the last group, which is not full, or None where nothing is left."""
        return self._take() if self._parts else None

    def _take(self) -> TokenBatch:
        parts, self._parts = self._parts, []
        self._held_tokens = self._held_documents = 0
        if len(parts) == 1:
            return parts[0]
        lengths = np.concatenate([part.lengths for part in parts])
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
        tokens = np.concatenate([part.tokens for part in parts])
        return TokenBatch(tokens, offsets_from_lengths(lengths, len(lengths)), columns)


def _part(batch: TokenBatch, start: int, stop: int) -> TokenBatch:
    first, last = int(batch.offsets[start]), int(batch.offsets[stop])
    columns = {name: values[first:last] for name, values in batch.columns.items()}
    return TokenBatch(batch.tokens[first:last], batch.offsets[start : stop + 1] - first, columns)
