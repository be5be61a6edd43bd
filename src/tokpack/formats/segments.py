"""Reading one axis of tokens that lies in several arrays: record batches, row groups.

``edges`` (int64, segments + 1, first 0) says where each segment begins; ``segment(i)`` returns its values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["gather_segments", "read_segments"]


def read_segments(
    edges: NDArray[np.int64],
    segment: Callable[[int], NDArray[Any]],
    start: int,
    stop: int,
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    """Return values [start, stop): a view within one segment, a copy across several."""
    start, stop = max(0, start), min(stop, int(edges[-1]))
    if start >= stop:
        return np.empty(0, dtype)
    first = int(np.searchsorted(edges, start, side="right")) - 1
    base = int(edges[first])
    if stop <= edges[first + 1]:
        return segment(first)[start - base : stop - base]
    last = int(np.searchsorted(edges, stop, side="left"))
    return np.concatenate(
        [
            segment(index)[max(0, start - int(edges[index])) : stop - int(edges[index])]
            for index in range(first, last)
        ]
    )


def gather_segments(
    edges: NDArray[np.int64],
    segment: Callable[[int], NDArray[Any]],
    starts: NDArray[np.int64],
    out: NDArray[Any],
) -> None:
    """Fill ``out`` (rows, length) with values [starts[i], starts[i] + length), segment by segment."""
    length = out.shape[1]
    if len(starts) and (int(starts.min()) < 0 or int(starts.max()) + length > edges[-1]):
        raise IndexError(f"a window of {length:,} tokens reaches outside of the {int(edges[-1]):,} stored")
    home = np.searchsorted(edges, starts, side="right") - 1
    inside = starts + length <= edges[np.minimum(home + 1, len(edges) - 1)]
    for index in np.unique(home[inside]).tolist():
        rows = np.flatnonzero(inside & (home == index))
        out[rows] = sliding_window_view(segment(index), length)[starts[rows] - edges[index]]
    for row in np.flatnonzero(~inside).tolist():
        start = int(starts[row])
        out[row] = read_segments(edges, segment, start, start + length, out.dtype)
