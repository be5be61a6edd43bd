"""Longest first, on the histogram of lengths: `best-fit` and `first-fit`.

Rows that hold the same are planned together, as runs; so the work grows with the distinct lengths, and only
the last step, which puts every document in its place, grows with the documents, and is vectorised.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from heapq import heappop, heappush
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokpack.samplers.packing.documents import BLOCK, Documents, Rows, room_for

__all__ = ["best_fit", "first_fit"]


_Run: TypeAlias = tuple[int, int, int]  # (first row, rows, pieces that each row holds)
_NONE = 1 << 62


def best_fit(documents: Documents) -> Rows:
    """Put each tail, longest first, into the row with the least room that takes it."""
    return _place_by_length(documents, _steps(documents, _TightestFirst()))


def first_fit(documents: Documents) -> Rows:
    """Put each tail, longest first, into the first row that takes it."""
    return _place_by_length(documents, _steps(documents, _EarliestFirst(documents.seq_len)))


class _Choice(Protocol):
    """Runs of rows by the room they have, and which of them comes next."""

    def keep(self, room: int, run: _Run) -> None: ...

    def take(self, length: int) -> tuple[int, _Run] | None:
        """Remove and return a run with room for ``length`` tokens, if there is one."""
        ...


class _TightestFirst:
    """Gives the run with the least room that is enough."""

    def __init__(self) -> None:
        self._runs: dict[int, list[_Run]] = {}
        self._rooms: list[int] = []  # the keys, ascending

    def keep(self, room: int, run: _Run) -> None:
        if room not in self._runs:
            self._runs[room] = []
            insort(self._rooms, room)
        self._runs[room].append(run)

    def take(self, length: int) -> tuple[int, _Run] | None:
        place = bisect_left(self._rooms, length)
        if place == len(self._rooms):
            return None
        room = self._rooms[place]
        run = self._runs[room].pop()
        if not self._runs[room]:
            del self._runs[room], self._rooms[place]
        return room, run


class _EarliestFirst:
    """Gives the run with the lowest row among those with room enough."""

    def __init__(self, seq_len: int) -> None:
        self._runs: list[list[_Run]] = [[] for _ in range(seq_len + 1)]  # a heap for each room
        # A segment tree over rooms; its nodes hold row * size + room of the lowest row below them.
        self._size = 1 << seq_len.bit_length()
        self._lowest = [_NONE] * (2 * self._size)

    def keep(self, room: int, run: _Run) -> None:
        heappush(self._runs[room], run)
        self._update(room)

    def take(self, length: int) -> tuple[int, _Run] | None:
        node = self._size + length
        lowest = self._lowest[node]
        while node > 1:
            if not node & 1:
                lowest = min(lowest, self._lowest[node + 1])
            node >>= 1
        if lowest == _NONE:
            return None
        room = lowest % self._size
        run = heappop(self._runs[room])
        self._update(room)
        return room, run

    def _update(self, room: int) -> None:
        runs, tree = self._runs[room], self._lowest
        node = self._size + room
        lowest = runs[0][0] * self._size + room if runs else _NONE
        while tree[node] != lowest:
            tree[node] = lowest
            node >>= 1
            if not node:
                return
            lowest = min(tree[2 * node], tree[2 * node + 1])


def _steps(documents: Documents, choice: _Choice) -> NDArray[np.int64]:
    """Fill runs of equal rows together. A step is (first row, rows, pieces held, pieces added to each)."""
    steps: list[tuple[int, int, int, int]] = []
    opened = 0
    for length in (np.flatnonzero(documents.histogram[1:]) + 1)[::-1].tolist():
        left = int(documents.histogram[length])
        while left:
            taken = choice.take(length)
            if taken is None:
                rows = -(-left // (documents.seq_len // length))
                taken = documents.seq_len, (opened, rows, 0)
                opened += rows
            room, (row, rows, held) = taken
            each = room // length
            filled = min(rows, left // each)
            if filled:
                steps.append((row, filled, held, each))
                choice.keep(room - each * length, (row, filled, held + each))
                left -= filled * each
            if filled < rows and left:  # fewer than `each` are left: they go into the next row
                steps.append((row + filled, 1, held, left))
                choice.keep(room - left * length, (row + filled, 1, held + left))
                filled, left = filled + 1, 0
            if filled < rows:
                choice.keep(room, (row + filled, rows - filled, held))
    return np.array(steps, np.int64).reshape(-1, 4)


def _place_by_length(documents: Documents, steps: NDArray[np.int64]) -> Rows:
    """Carry out the steps, which take tails longest first and equal ones in the order of the dataset."""
    row, rows, slot, pieces = steps.T
    used = rows * pieces
    opened = int((row + rows).max(initial=0))
    held = np.bincount(row, pieces, opened + 1) - np.bincount(row + rows, pieces, opened + 1)
    whole_starts = documents.whole_starts()
    row_offsets = np.zeros(opened + len(whole_starts) + 1, np.int64)
    row_offsets[1 : opened + 1] = held.cumsum()[:-1]
    row_offsets[opened + 1 :] = 1
    np.cumsum(row_offsets, out=row_offsets)
    starts, lengths = room_for(row_offsets)

    order = np.argsort(documents.seq_len - documents.tails, kind="stable")[: used.sum()]
    before = np.cumsum(used) - used
    step_of = np.repeat(np.arange(len(steps), dtype=np.int32), used)
    for first in range(0, len(order), BLOCK):
        block = slice(first, first + BLOCK)
        step = step_of[block]
        nth = np.arange(first, first + len(step)) - before[step]
        in_row, in_slot = np.divmod(nth, pieces[step])
        place = row_offsets[row[step] + in_row] + slot[step] + in_slot
        starts[place] = documents.tail_starts(order[block])
        lengths[place] = documents.tails[order[block]]
    if len(whole_starts):
        starts[-len(whole_starts) :] = whole_starts
        lengths[-len(whole_starts) :] = documents.seq_len
    return Rows(starts, lengths, row_offsets, np.arange(opened, len(row_offsets) - 1))
