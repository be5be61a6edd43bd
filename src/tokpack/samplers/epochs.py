"""Where a row lies in a sampler's epochs."""

from __future__ import annotations

from bisect import bisect_right

from tokpack.protocols import Sampler

__all__ = ["epochs_at"]


def epochs_at(sampler: Sampler, row: int) -> float:
    """Return how many epochs the first ``row`` rows are, the last one as a fraction."""
    most = 1
    while sampler.rows_before(most) <= row:
        most *= 2
    # Not a division: epochs may differ by a row, and those of a tiny dataset may even be empty.
    epoch = bisect_right(range(most), row, key=sampler.rows_before) - 1
    begin, end = sampler.rows_before(epoch), sampler.rows_before(epoch + 1)
    return epoch + (row - begin) / (end - begin)
