"""Documents cut to rows, and what the strategies hand back."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokpack.errors import DamagedError

__all__ = ["BLOCK", "Documents", "LongDocuments", "Rows", "counters", "cut", "room_for"]

#: What happens to a document longer than a row.
LongDocuments: TypeAlias = Literal["split", "truncate", "drop"]
BLOCK = 1 << 20  # documents handled at a time, so that temporaries stay small beside the plan


class Documents(NamedTuple):
    """Documents cut to rows: as many whole rows as each fills, then a tail of at most ``seq_len`` tokens."""

    offsets: NDArray[np.int64]
    seq_len: int
    policy: LongDocuments
    tails: NDArray[Any]  # (documents,) uint16, or uint32 where rows are longer; 0: no tail
    histogram: NDArray[np.int64]  # (seq_len + 1,) documents per length of tail
    long: NDArray[np.int64]  # documents longer than a row, ascending
    whole: NDArray[np.int64]  # whole rows that each of them fills beside its tail

    def tail_starts(self, documents: NDArray[Any] | slice) -> NDArray[np.int64]:
        """Where the tails of these documents begin, counted in tokens."""
        starts: NDArray[np.int64] = self.offsets[:-1][documents]
        if self.policy == "split":
            starts = self.offsets[1:][documents] - self.tails[documents]
        return starts

    def whole_starts(self, long: slice = slice(None)) -> NDArray[np.int64]:
        """Where the whole rows of these long documents begin, in the order of the dataset."""
        whole = self.whole[long]
        return np.repeat(self.offsets[self.long[long]], whole) + self.seq_len * counters(whole)


class Rows(NamedTuple):
    """What a strategy hands back; see PackingPlan."""

    starts: NDArray[np.int64]
    lengths: NDArray[np.int32]
    row_offsets: NDArray[np.int64]
    whole_rows: NDArray[np.int64]  # rows that a part of a long document fills, and that another part follows


def cut(offsets: NDArray[np.int64], seq_len: int, policy: LongDocuments) -> Documents:
    """Cut every document to rows as ``policy`` says. Raises DamagedError where the offsets do not ascend."""
    count = len(offsets) - 1
    tails = np.empty(count, np.uint16 if seq_len < 1 << 16 else np.uint32)
    histogram = np.zeros(seq_len + 1, np.int64)
    long: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    whole: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for first in range(0, count, BLOCK):
        lengths = np.diff(offsets[first : first + BLOCK + 1])
        if (lengths < 0).any():
            raise DamagedError(
                f"document offsets descend near document {first + int(lengths.argmin()):,}; "
                "run `tokpack verify` on the dataset"
            )
        over = np.flatnonzero(lengths > seq_len)
        fills = (lengths[over] - 1) // seq_len if policy == "split" else np.zeros(len(over), np.int64)
        lengths[over] = 0 if policy == "drop" else np.minimum(lengths[over] - seq_len * fills, seq_len)
        tails[first : first + BLOCK] = lengths
        histogram += np.bincount(lengths, minlength=seq_len + 1)
        long.append(over + first)
        whole.append(fills)
    return Documents(offsets, seq_len, policy, tails, histogram, np.concatenate(long), np.concatenate(whole))


def counters(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0..counts[0]-1, 0..counts[1]-1, ... in one array."""
    ends = np.cumsum(counts)
    return np.arange(counts.sum()) - np.repeat(ends - counts, counts)


def room_for(row_offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return uninitialised starts and lengths for all pieces of these rows."""
    pieces = int(row_offsets[-1])
    return np.empty(pieces, np.int64), np.empty(pieces, np.int32)
