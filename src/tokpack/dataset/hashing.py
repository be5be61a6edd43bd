"""Reading files once, on all cores: SHA-256 of their bytes and, where these are token ids, the ids' range."""

from __future__ import annotations

import hashlib
import mmap
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["Span", "Stretch", "StretchSummary", "hash_range", "reading"]

# Mapped at a time.
_MAP_BYTES = 1 << 21
# Small enough to stay in a core's own cache from being hashed to being looked through.
_CACHE_BYTES = 1 << 18
# Linux 5.14: an error of the disk is an error of this call, not a signal that ends the process later.
_MADV_POPULATE_READ = 22


@dataclass(slots=True)
class Span:
    """The smallest and the largest of the ids seen; None before any."""

    low: int | None = None
    high: int | None = None

    def add(self, low: int | None, high: int | None) -> None:
        """Take another span into account."""
        if low is not None and high is not None:
            self.low = low if self.low is None else min(low, self.low)
            self.high = high if self.high is None else max(high, self.high)

    def add_ids(self, ids: NDArray[Any]) -> None:
        """Take ids, any number of them, into account."""
        if len(ids):
            self.add(int(np.minimum.reduce(ids)), int(np.maximum.reduce(ids)))


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes [start, stop) of a file, hashed in blocks of ``block_bytes`` each on its own.

    ``ids`` is the dtype of token ids where the bytes are nothing else; then their span is found as well.
    """

    relative: str
    start: int
    stop: int
    block_bytes: int
    ids: np.dtype[Any] | None = None

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class StretchSummary:
    """SHA-256 of each block of a stretch, at least of one, and the span of its ids."""

    blocks: list[bytes] = field(default_factory=list)
    span: Span = field(default_factory=Span)


@contextmanager
def reading(
    root: Path, stretches: Sequence[Stretch], threads: int
) -> Iterator[Iterable[tuple[Stretch, StretchSummary | OSError]]]:
    """Read ``stretches`` on ``threads`` threads, which begin at once, while the ``with`` block runs.

    It gives each stretch in order with its summary, or with the error that reading it met.
    """
    summarize = partial(_summarize, root)
    if threads == 1:
        yield zip(stretches, map(summarize, stretches), strict=True)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield zip(stretches, pool.map(summarize, stretches), strict=True)


def hash_range(file: BinaryIO, start: int, stop: int) -> tuple[str, int]:
    """Return the SHA-256 (hex) of bytes [start, stop) of ``file``, and how many of them there are."""
    digest, size = hashlib.sha256(), 0
    for part in _parts(file, start, stop):
        digest.update(part)
        size += len(part)
    return digest.hexdigest(), size


def _summarize(root: Path, stretch: Stretch) -> StretchSummary | OSError:
    summary = StretchSummary()
    try:
        with (root / stretch.relative).open("rb", buffering=0) as file:
            for start in range(stretch.start, max(stretch.stop, stretch.start + 1), stretch.block_bytes):
                digest = hashlib.sha256()
                for part in _parts(file, start, min(start + stretch.block_bytes, stretch.stop)):
                    digest.update(part)
                    if (ids := stretch.ids) is not None:
                        summary.span.add_ids(np.frombuffer(part[: len(part) - len(part) % ids.itemsize], ids))
                summary.blocks.append(digest.digest())
    except OSError as error:
        return error
    return summary


def _parts(file: BinaryIO, start: int, stop: int) -> Iterator[memoryview]:
    """Yield bytes [start, stop) of ``file``, or those up to its end, in parts that fit into a cache."""
    for at in range(start, stop, _MAP_BYTES):
        size = min(_MAP_BYTES, stop - at)
        if (pages := _mapped(file, at, size)) is None:
            yield from _read(file, at, size)
            continue
        for edge in range(0, size, _CACHE_BYTES):
            yield pages[edge : edge + _CACHE_BYTES]


def _mapped(file: BinaryIO, start: int, size: int) -> memoryview | None:
    """Map part of a file, which saves copying it; None where that cannot be done without danger."""
    if sys.platform != "linux":
        return None
    skip = start % mmap.ALLOCATIONGRANULARITY
    try:
        pages = mmap.mmap(file.fileno(), skip + size, access=mmap.ACCESS_READ, offset=start - skip)
        pages.madvise(_MADV_POPULATE_READ)
    except (OSError, ValueError):  # whatever is wrong, reading it says so better
        return None
    return memoryview(pages)[skip:]


def _read(file: BinaryIO, start: int, size: int) -> Iterator[memoryview]:
    """Read part of a file in parts of even size, the last excepted; one read may give less than asked."""
    file.seek(start)
    while size and (block := _read_exactly(file, min(size, _CACHE_BYTES))):
        yield memoryview(block)
        size -= len(block)


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    block = file.read(size)
    while len(block) < size and (more := file.read(size - len(block))):
        block += more
    return block
