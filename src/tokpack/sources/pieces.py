"""Cutting a stream of bytes at a separator, in bounded memory and without per-document Python work.

A piece belongs to the range in which it *begins*, so the ranges of a file give the same pieces however the
file is cut into ranges.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokpack.protocols import Slice
from tokpack.sources.streams import ByteStream, file_bytes, is_compressed, open_stream

__all__ = ["Pieces", "byte_slices", "iter_pieces", "overlaps_itself"]


class Pieces(NamedTuple):
    """Consecutive pieces: piece ``i`` is ``data[starts[i]:ends[i]]``, and a separator follows it.

    Only the last piece of an input may lack its separator. ``position`` is where ``data`` begins in the
    (decompressed) input. ``oversized`` is the position of a piece that was passed over since it is longer
    than the limit; then there are no others.
    """

    position: int
    data: bytes
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    oversized: int | None = None


def overlaps_itself(separator: bytes) -> bool:
    """Whether two occurrences can share bytes, as in "aa": then only the file's start tells which count."""
    return any(separator.startswith(separator[shift:]) for shift in range(1, len(separator)))


def byte_slices(path: str, *, slice_bytes: int, divisible: bool) -> list[Slice]:
    """Share out the bytes of ``path`` to slices of about ``slice_bytes``, or to one if not ``divisible``."""
    size = file_bytes(path)
    count = 1 if is_compressed(path) or not divisible else max(1, -(-size // slice_bytes))
    edges = [index * size // count for index in range(count + 1)]
    return [Slice(path, a, b, a, b) for a, b in itertools.pairwise(edges)]


def iter_pieces(part: Slice, separator: bytes, *, block_bytes: int, max_piece_bytes: int) -> Iterator[Pieces]:
    """Yield the pieces that begin in ``part``; what follows the last separator is one if it is not empty.

    Memory stays within a few times ``block_bytes + max_piece_bytes``, however long a piece is.
    """
    # A piece begins in the range if its separator ends there, so the search begins one separator earlier.
    begin = max(part.start - len(separator), 0) if part.start else 0
    stop = sys.maxsize if is_compressed(part.path) else part.stop
    with open_stream(part.path, begin) as stream:
        yield from _cut(
            stream,
            separator,
            position=begin,
            lost=part.start > 0,
            stop=stop,
            block_bytes=block_bytes,
            max_piece_bytes=max_piece_bytes,
        )


def _cut(
    stream: ByteStream,
    separator: bytes,
    *,
    position: int,
    lost: bool,
    stop: int,
    block_bytes: int,
    max_piece_bytes: int,
) -> Iterator[Pieces]:
    """``lost``: inside a piece that is not ours or too long; the next separator ends it."""
    width = len(separator)
    data = b""
    none = np.empty(0, dtype=np.int64)
    # Reading as much as is pending keeps the copying of one long piece linear.
    while position < stop and (block := stream.read(max(block_bytes, len(data)))):
        searched = max(len(data) - width + 1, 0)
        data += block
        ends = _find(data, separator, searched)
        if lost and ends.size:
            first = int(ends[0]) + width
            data, position, ends = data[first:], position + first, ends[1:] - first
            lost = False
            if position >= stop:
                return
        if ends.size:
            starts = np.concatenate(([0], ends[:-1] + width))
            ours = int(np.searchsorted(starts, stop - position))
            yield Pieces(position, data, starts[:ours], ends[:ours])
            rest = int(ends[-1]) + width
            data, position = data[rest:], position + rest
        elif not lost and len(data) - width + 1 > max_piece_bytes:  # its end may be half a separator
            yield Pieces(position, b"", none, none, oversized=position)
            lost = True
        if lost:  # keep what may be the beginning of a separator
            dropped = max(len(data) - width + 1, 0)
            data, position = data[dropped:], position + dropped
    if data and not lost and position < stop:
        yield Pieces(position, data, np.zeros(1, dtype=np.int64), np.full(1, len(data), dtype=np.int64))


def _find(data: bytes, separator: bytes, start: int) -> NDArray[np.int64]:
    """Return where ``separator`` occurs in ``data[start:]``, from left to right and without overlaps."""
    if overlaps_itself(separator):
        return _find_one_by_one(data, separator, start)
    array = np.frombuffer(data, dtype=np.uint8)[start:]
    last = len(array) - len(separator) + 1
    if last <= 0:
        return np.empty(0, dtype=np.int64)
    found = np.flatnonzero(array[:last] == separator[0])
    for shift, byte in enumerate(separator[1:], 1):
        found = found[array[found + shift] == byte]
    return found + start


def _find_one_by_one(data: bytes, separator: bytes, start: int) -> NDArray[np.int64]:
    found = []
    while (at := data.find(separator, start)) >= 0:
        found.append(at)
        start = at + len(separator)
    return np.array(found, dtype=np.int64)
