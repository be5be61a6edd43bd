"""The logical digest: identity of a split's documents and tokens alone.

It does not depend on format, dtype, sharding or worker count, so conversions and executors are compared by
it. Definition (normative; docs/reference/manifest.md repeats it):

- Streams: ``tokens``, all ids in order as little-endian unsigned integers of 2 bytes where the tokenizer has
  at most 65,536 ids, else 4; ``lengths``, the number of tokens of each document as 8-byte little-endian;
  then every further column under its name, values as stored.
- Each stream is cut into blocks of 2**21 bytes (the last may be shorter); each block is hashed by SHA-256.
- The digest is SHA-256 over, for each stream, its name, a zero byte, its size in bytes (8 bytes,
  little-endian) and the digests of its blocks in order; ``tokens`` first, ``lengths`` second, columns sorted.

Since blocks lie at fixed places, they can be hashed in parallel, each on its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import TokenBatch
from tokpack.dtypes import token_dtype

__all__ = ["BLOCK_BYTES", "LogicalDigest", "StreamSummary", "combine", "summarize"]

BLOCK_BYTES = 1 << 21


class StreamSummary(NamedTuple):
    """Size of a stream in bytes, and the SHA-256 of each of its blocks."""

    size_bytes: int
    blocks: Sequence[bytes]


def combine(streams: Mapping[str, StreamSummary]) -> str:
    """Return the digest (64 hex digits) of streams in the order given: tokens, lengths, columns sorted."""
    total = hashlib.sha256()
    for name, (size, blocks) in streams.items():
        total.update(name.encode() + b"\0" + size.to_bytes(8, "little") + b"".join(blocks))
    return total.hexdigest()


def summarize(values: NDArray[Any]) -> StreamSummary:
    """Return the summary of a stream that is at hand as one array."""
    stream = _Stream()
    stream.update(values)
    return stream.summary()


class _Stream:
    """Hashes a byte stream in blocks of fixed size."""

    def __init__(self) -> None:
        self._size = 0
        self._block = hashlib.sha256()
        self._blocks: list[bytes] = []

    def update(self, values: NDArray[Any]) -> None:
        view = np.ascontiguousarray(values).view(np.uint8).data
        while len(view):
            room = BLOCK_BYTES - self._size % BLOCK_BYTES
            part, view = view[:room], view[room:]
            self._block.update(part)
            self._size += len(part)
            if self._size % BLOCK_BYTES == 0:
                self._blocks.append(self._block.digest())
                self._block = hashlib.sha256()

    def summary(self) -> StreamSummary:
        last = [self._block.digest()] if self._size % BLOCK_BYTES else []
        return StreamSummary(self._size, [*self._blocks, *last])


class LogicalDigest:
    """Takes batches in order; ``hexdigest()`` gives the digest of all of them."""

    def __init__(self, vocab_size: int, columns: Iterable[str] = ()) -> None:
        self._dtype = token_dtype(vocab_size)
        self._streams = {"tokens": _Stream(), "lengths": _Stream()}
        self._streams |= {name: _Stream() for name in sorted(columns)}

    def update(self, batch: TokenBatch) -> None:
        """Add the documents of ``batch``; ids are below the vocabulary size."""
        self._streams["tokens"].update(batch.tokens.astype(self._dtype, copy=False))
        self._streams["lengths"].update(batch.lengths.astype("<i8", copy=False))
        for name, values in batch.columns.items():
            self._streams[name].update(values)

    def hexdigest(self) -> str:
        """Return the digest so far, as 64 hex digits."""
        return combine({name: stream.summary() for name, stream in self._streams.items()})
