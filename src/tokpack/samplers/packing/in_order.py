"""In the order of the dataset, so that a row holds neighbours: `greedy` and `pool`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import offsets_from_lengths
from tokpack.samplers.packing.documents import BLOCK, Documents, Rows, counters, room_for

__all__ = ["POOL_DOCUMENTS", "POOL_ROWS", "greedy", "pool"]

POOL_ROWS = 16  # rows open at a time
POOL_DOCUMENTS = 4096  # documents after which a pool starts afresh

_POOLS_AT_ONCE = 1024  # pools filled in lockstep: their open rows fit the cache


def greedy(documents: Documents) -> Rows:
    """Fill one row after the other; a piece that does not fit begins the next."""
    starts, lengths, whole = _in_order(documents)
    ends = np.cumsum(lengths, dtype=np.int64)
    firsts = [np.zeros(1, np.int64)]
    piece = 0
    for first in range(0, len(ends), BLOCK):
        # Where the row that begins with each piece would end; only the chain of real rows is then followed.
        limits = ends[first : first + BLOCK] - lengths[first : first + BLOCK] + documents.seq_len
        following = np.searchsorted(ends, limits, side="right").tolist()
        chain = []
        while piece - first < len(following):
            piece = following[piece - first]
            chain.append(piece)
        firsts.append(np.array(chain, np.int64))
    row_offsets = np.concatenate(firsts)
    return Rows(starts, lengths, row_offsets, np.searchsorted(row_offsets, whole))


def _in_order(documents: Documents) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Every piece in the order of the dataset: starts, lengths, and which of them fill whole rows."""
    whole = np.zeros(len(documents.tails), np.int64)
    whole[documents.long] = documents.whole
    ends = np.cumsum(whole + (documents.tails > 0))
    starts = np.empty(int(ends[-1]) if len(ends) else 0, np.int64)
    lengths = np.full(len(starts), documents.seq_len, np.int32)
    tailed = documents.tails > 0
    starts[ends[tailed] - 1] = documents.tail_starts(tailed)
    lengths[ends[tailed] - 1] = documents.tails[tailed]
    first_whole = ends[documents.long] - documents.whole - tailed[documents.long]
    filling = np.repeat(first_whole, documents.whole) + counters(documents.whole)
    starts[filling] = documents.whole_starts()
    return starts, lengths, filling


def pool(documents: Documents) -> Rows:
    """Put each tail into the best of POOL_ROWS open rows, and start afresh every POOL_DOCUMENTS documents."""
    step = POOL_DOCUMENTS * _POOLS_AT_ONCE
    return _join([_plan_pools(documents, first) for first in range(0, len(documents.tails), step)])


def _join(parts: list[Rows]) -> Rows:
    """Put the rows of one part after those of the part before."""
    pieces = np.cumsum([0, *(len(part.starts) for part in parts)])
    rows = np.cumsum([0, *(len(part.row_offsets) - 1 for part in parts)])
    none = np.empty(0, np.int64)
    return Rows(
        np.concatenate([none, *(part.starts for part in parts)]),
        np.concatenate([none.astype(np.int32), *(part.lengths for part in parts)]),
        np.concatenate([[0], *(part.row_offsets[1:] + at for part, at in zip(parts, pieces, strict=False))]),
        np.concatenate([none, *(part.whole_rows + at for part, at in zip(parts, rows, strict=False))]),
    )


def _plan_pools(documents: Documents, first: int) -> Rows:
    """Plan POOLS_AT_ONCE pools from document ``first`` on."""
    tails = documents.tails[first : first + POOL_DOCUMENTS * _POOLS_AT_ONCE]
    tailed = np.flatnonzero(tails)
    row, slot, opened = _fill_pools(tails, documents.seq_len)
    low, high = np.searchsorted(documents.long, [first, first + len(tails)])
    fills, long = documents.whole[low:high], documents.long[low:high]

    # Rows of a pool follow those of the pool before: first its whole rows, then the others.
    whole = np.bincount((long - first) // POOL_DOCUMENTS, fills, len(opened)).astype(np.int64)
    base = np.cumsum(whole + opened) - whole - opened
    row_of = (row + (base + whole)[:, None]).reshape(-1)[tailed]
    whole_rows = np.repeat(base, whole) + counters(whole)
    held = np.bincount(row_of, minlength=int(whole.sum() + opened.sum()))
    held[whole_rows] = 1
    row_offsets = offsets_from_lengths(held, len(held))
    starts, lengths = room_for(row_offsets)
    place = row_offsets[row_of] + slot.reshape(-1)[tailed]
    starts[place], lengths[place] = documents.tail_starts(tailed + first), tails[tailed]
    place = row_offsets[whole_rows]
    starts[place], lengths[place] = documents.whole_starts(slice(low, high)), documents.seq_len
    return Rows(starts, lengths, row_offsets, whole_rows)


def _fill_pools(
    tails: NDArray[Any], seq_len: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Fill many pools in lockstep, one document of each at a time.

    Returns each tail's row within its pool and its slot in that row, both (pools, POOL_DOCUMENTS), and the
    rows that every pool opened, (pools,). Empty tails get a row and a slot that mean nothing.
    """
    pools = -(-len(tails) // POOL_DOCUMENTS)
    needs = np.zeros((pools, POOL_DOCUMENTS), np.int32)
    needs.reshape(-1)[: len(tails)] = tails
    row = np.empty((POOL_DOCUMENTS, pools), np.int32)
    slot = np.empty((POOL_DOCUMENTS, pools), np.int32)
    # Flat, so that one index per pool names an open row: pool * POOL_ROWS + open row.
    room, number, held = (np.zeros(pools * POOL_ROWS, np.int32) for _ in range(3))
    opened = np.zeros(pools, np.int32)
    base = np.arange(pools) * POOL_ROWS
    for document, need in enumerate(np.ascontiguousarray(needs.T)):
        after = room.reshape(pools, POOL_ROWS) - need[:, None]
        # As unsigned numbers, rows without enough room come last.
        best = base + after.view(np.uint32).argmin(axis=1)
        full = np.flatnonzero(room[best] < need)
        if len(full):
            fresh = base[full] + room.reshape(pools, POOL_ROWS)[full].argmin(axis=1)
            best[full], room[fresh], held[fresh], number[fresh] = fresh, seq_len, 0, opened[full]
            opened[full] += 1
        room[best] -= need
        row[document], slot[document] = number[best], held[best]
        held[best] += need > 0
    return row.T, slot.T, opened
