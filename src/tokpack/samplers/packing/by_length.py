"""Longest first, on the histogram of lengths: `best-fit` and `first-fit`.

Rows that hold the same are planned together, as runs; so the work grows with the distinct lengths, and only
the last step, which puts every document in its place, grows with the documents, and is vectorised.
"""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np
from numpy.typing import NDArray

from tokpack.samplers.packing.documents import BLOCK, Documents, Rows, room_for

__all__ = ["best_fit", "first_fit"]


def best_fit(documents: Documents) -> Rows:
    """Put each tail, longest first, into the row with the least room that takes it."""
    return _place_by_length(documents, _best_fit_steps(documents.histogram, documents.seq_len))


def first_fit(documents: Documents) -> Rows:
    """Put each tail, longest first, into the first row that takes it."""
    return _place_by_length(documents, _first_fit_steps(documents.histogram, documents.seq_len))


def _best_fit_steps(histogram: NDArray[np.int64], seq_len: int) -> NDArray[np.int64]:
    # Rows of equal room are kept together as runs (row, rows, slot) and filled together.
    runs: dict[int, list[tuple[int, int, int]]] = {}
    rooms: list[int] = []  # the keys of `runs`, ascending
    steps: list[tuple[int, int, int, int]] = []

    def keep(room: int, row: int, rows: int, slot: int) -> None:
        if room not in runs:
            runs[room] = []
            insort(rooms, room)
        runs[room].append((row, rows, slot))

    opened = 0
    for length in _longest_first(histogram):
        left = int(histogram[length])
        while left:
            place = bisect_left(rooms, length)
            if place == len(rooms):
                new = -(-left // (seq_len // length))
                keep(seq_len, opened, new, 0)
                opened += new
            room = rooms[place]
            row, rows, slot = runs[room].pop()
            if not runs[room]:
                del runs[room], rooms[place]
            each = room // length
            filled = min(rows, left // each)
            if filled:
                steps.append((row, filled, slot, each))
                keep(room - each * length, row, filled, slot + each)
                left -= filled * each
            if filled < rows and left:  # fewer than `each` are left: they go into the next row
                steps.append((row + filled, 1, slot, left))
                keep(room - left * length, row + filled, 1, slot + left)
                filled, left = filled + 1, 0
            if filled < rows:
                keep(room, row + filled, rows - filled, slot)
    return np.array(steps, np.int64).reshape(-1, 4)


def _first_fit_steps(histogram: NDArray[np.int64], seq_len: int) -> NDArray[np.int64]:
    lengths = _longest_first(histogram)
    shortest = lengths[-1] if lengths else 0
    steps: list[NDArray[np.int64]] = [np.empty((0, 4), np.int64)]
    runs = np.empty((0, 4), np.int64)  # (row, rows, slot, room), ascending by row
    opened = 0
    for length in lengths:
        count = histogram[length]
        runs = np.append(runs, [[opened, count, 0, seq_len]], axis=0)  # new rows, more than can be needed
        each = runs[:, 3] // length
        filled = np.cumsum(each * runs[:, 1])
        last = np.searchsorted(filled, count)  # the run in which the pieces of this length come to their end
        row, rows, slot, room = runs[last]
        full, rest = divmod(count - filled[last] + each[last] * rows, each[last])
        partly = 1 if rest else 0
        parts = [
            [row, full, slot, room],
            [row + full, partly, slot, room],
            [row + full + partly, rows - full - partly, slot, room],
        ]
        opened = max(opened, row + full + partly)
        runs = np.concatenate([runs[:last], parts, runs[last + 1 :]])
        each = np.concatenate([each[:last], [each[last], rest, 0], np.zeros(len(runs) - last - 3, np.int64)])
        used = (each > 0) & (runs[:, 1] > 0)
        steps.append(np.column_stack([runs[used, :3], each[used]]))
        runs[:, 2] += each
        runs[:, 3] -= each * length
        runs = runs[(runs[:, 1] > 0) & (runs[:, 3] >= shortest) & (runs[:, 0] < opened)]
    return np.concatenate(steps)


def _longest_first(histogram: NDArray[np.int64]) -> list[int]:
    lengths: list[int] = (np.flatnonzero(histogram[1:]) + 1)[::-1].tolist()
    return lengths


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
