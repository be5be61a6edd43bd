"""Values over the shards of a split as one axis: its tokens, and each further column."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tokpack.dataset.manifest import FileInfo, Shard
from tokpack.dtypes import COLUMN_DTYPES
from tokpack.errors import DamagedError
from tokpack.npy_file import map_npy
from tokpack.protocols import FormatReader, TokenColumn

__all__ = ["ArrayColumn", "Axis", "Windows", "open_columns", "starts_from_sizes"]


class Windows:
    """Windows of one contiguous array, copied at the speed of memcpy.

    Each window is one opaque item of an overlapping view, so NumPy's index copies it with one memcpy, and
    checks that it ends inside. The view is kept, since at 20 us per batch every call into NumPy counts.
    """

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values
        self._kept: tuple[int, np.dtype[Any], NDArray[Any]] = (0, values.dtype, values)

    def gather(self, starts: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` (rows, length) with values [starts[i], starts[i] + length)."""
        length, window, windows = self._kept
        if length != out.shape[1]:
            length, window, windows = self._kept = self._view(out.shape[1])
        if len(starts) and np.minimum.reduce(starts) < 0:
            raise IndexError(f"a window starts at {starts.min():,}, before the first token")
        self._values.take(starts)  # the first misses of all windows at once; copying would wait for each
        out.view(window)[:, 0] = windows[starts]

    def _view(self, length: int) -> tuple[int, np.dtype[Any], NDArray[Any]]:
        item_bytes = self._values.itemsize
        window = np.dtype((np.void, length * item_bytes))
        count = max(len(self._values) - length + 1, 0)
        return length, window, np.ndarray((count,), window, self._values, strides=(item_bytes,))


class ArrayColumn:
    """A `TokenColumn` over one array."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values
        self._windows = Windows(values)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return values [start, stop) as a view."""
        return self._values[start:stop]

    def gather(self, starts: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` (rows, length) with values [starts[i], starts[i] + length)."""
        self._windows.gather(starts, out)


class _ReaderColumn:
    """A `TokenColumn` that the format's own reader gives."""

    def __init__(self, reader: FormatReader, name: str) -> None:
        self._reader = reader
        self._name = name

    def read(self, start: int, stop: int) -> NDArray[Any]:
        values: NDArray[Any] = self._reader.column(self._name, start, stop)  # type: ignore[attr-defined]
        return values

    def gather(self, starts: NDArray[np.int64], out: NDArray[Any]) -> None:
        length = out.shape[1]
        for row in np.argsort(starts).tolist():  # in order, since a reader may keep the block that it decoded
            out[row] = self.read(int(starts[row]), int(starts[row]) + length)


def open_columns(
    reader: FormatReader, shard: Shard, names: Sequence[str], locate: Callable[[FileInfo], Path]
) -> Mapping[str, TokenColumn]:
    """Open the columns of one shard: those in files of their own, and those that its reader holds.

    Raises:
        DamagedError: a file is not what it must be.
    """
    opened: dict[str, TokenColumn] = {}
    for name in names:
        if (info := shard.columns.get(name)) is None:
            opened[name] = _ReaderColumn(reader, name)
            continue
        values = map_npy(locate(info), COLUMN_DTYPES[name])
        if len(values) != shard.tokens:
            raise DamagedError(
                f"{info.name} holds {len(values):,} values for {shard.tokens:,} tokens; "
                "restore it from a copy or encode again"
            )
        opened[name] = ArrayColumn(values)
    return opened


class _Reads(Protocol):
    def read(self, start: int, stop: int) -> NDArray[Any]: ...


class _Gathers(Protocol):
    def gather(self, starts: NDArray[np.int64], out: NDArray[Any]) -> None: ...


class Axis:
    """A `TokenColumn` over the shards of a split.

    ``starts`` (shards + 1) says where each begins; ``part(index)`` opens what reads one, and may be called
    often. A part that has no ``gather`` is gathered from the view that it gives of all its values.
    """

    def __init__(self, starts: Sequence[int], dtype: np.dtype[Any], part: Callable[[int], _Reads]) -> None:
        self._starts = starts
        self._dtype = dtype
        self._part = part
        self._gatherers: list[_Gathers | None] = [None] * (len(starts) - 1)

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return values [start, stop): whatever one shard gives, a copy across shards."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"tokens [{start:,}, {stop:,}) reach outside of the {len(self):,} stored")
        index = bisect_right(self._starts, start) - 1
        if start < stop <= self._starts[index + 1]:
            first = self._starts[index]
            return self._part(index).read(start - first, stop - first)
        return np.concatenate([np.empty(0, self._dtype), *self._pieces(start, stop)])

    def _pieces(self, start: int, stop: int) -> Iterator[NDArray[Any]]:
        index = bisect_right(self._starts, start) - 1
        while start < stop:
            first, end = self._starts[index], min(stop, self._starts[index + 1])
            if start < end:
                yield self._part(index).read(start - first, end - first)
                start = end
            index += 1

    def gather(self, starts: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` (rows, length) with values [starts[i], starts[i] + length)."""
        if len(self._gatherers) == 1:
            self._gatherer(0).gather(starts, out)
            return
        length = out.shape[1]
        edges = np.asarray(self._starts, dtype=np.int64)
        shards = np.searchsorted(edges, starts, side="right") - 1
        inside = starts + length <= edges[np.minimum(shards + 1, len(self._gatherers))]
        for index in np.unique(shards[inside]).tolist():
            rows = np.flatnonzero(inside & (shards == index))
            part = np.empty((len(rows), length), self._dtype)
            self._gatherer(index).gather(starts[rows] - edges[index], part)
            out[rows] = part
        for row in np.flatnonzero(~inside).tolist():  # the few that lie across two shards
            out[row] = self.read(int(starts[row]), int(starts[row]) + length)

    def _gatherer(self, index: int) -> _Gathers:
        if (gatherer := self._gatherers[index]) is None:
            part: Any = self._part(index)
            size = self._starts[index + 1] - self._starts[index]
            gatherer = part if hasattr(part, "gather") else Windows(part.read(0, size))
            self._gatherers[index] = gatherer
        return gatherer


def starts_from_sizes(sizes: Sequence[int]) -> list[int]:
    """Return where parts of these sizes begin, and where the last one ends: (parts + 1,)."""
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return starts
