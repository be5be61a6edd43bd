"""Documents longer than a limit: split, cut or left out, by name and counted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import TokenBatch
from tokpack.encoding.options import TooLong
from tokpack.errors import UsageError
from tokpack.tokenizers.rows import Side, truncate_batch

__all__ = ["Limited", "limit_length"]


class Limited(NamedTuple):
    """Documents within the limit.

    ``too_long`` (documents,) marks those that were not; ``stored`` (remaining documents,) is how many stored
    documents each became; ``tokens_cut`` counts tokens that are not stored.
    """

    batch: TokenBatch
    too_long: NDArray[np.bool_]
    stored: NDArray[np.int64]
    tokens_cut: int


def limit_length(batch: TokenBatch, limit: int | None, policy: TooLong, *, side: Side = "right") -> Limited:
    """Bring every document of ``batch`` to at most ``limit`` tokens (None: no limit).

    ``side`` is the end that ``truncate`` takes tokens from.

    Raises:
        UsageError: ``limit`` leaves no room for a token.
    """
    lengths = batch.lengths
    if limit is None or (limit > 0 and (not len(batch) or int(lengths.max()) <= limit)):
        return Limited(batch, np.zeros(len(batch), np.bool_), np.ones(len(batch), np.int64), 0)
    if limit < 1:
        raise UsageError("--max-length leaves no room for tokens beside BOS and EOS; ask for more")
    too_long = lengths > limit
    if policy == "split":
        return _split(batch, lengths, too_long, limit)
    shorter = truncate_batch(batch, limit, side=side) if policy == "truncate" else batch.select(~too_long)
    tokens_cut = len(batch.tokens) - len(shorter.tokens)
    return Limited(shorter, too_long, np.ones(len(shorter), np.int64), tokens_cut)


def _split(batch: TokenBatch, lengths: NDArray[np.int64], too_long: NDArray[np.bool_], limit: int) -> Limited:
    """Cut long documents every ``limit`` tokens: only the offsets change, no token moves."""
    pieces = np.maximum(1, -(-lengths // limit))
    number = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = np.repeat(batch.offsets[:-1], pieces) + number * limit
    offsets = np.append(starts, batch.offsets[-1]).astype(np.int64)
    return Limited(TokenBatch(batch.tokens, offsets, batch.columns), too_long, pieces, 0)
