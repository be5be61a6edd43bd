"""Megatron's ``.idx``: where sequences and documents lie in the ``.bin`` beside it.

Layout (megatron-core 0.16.1, ``megatron/core/datasets/indexed_dataset.py``), all little-endian:

| bytes | meaning |
|---|---|
| 9 | ``MMIDIDX`` and two zero bytes |
| 8 | version, 1 |
| 1 | dtype code: 4 int32, 8 uint16 (the others hold no tokens that tokpack writes) |
| 8 | S, the number of sequences |
| 8 | D, documents + 1 |
| 4 S | tokens per sequence, int32 |
| 8 S | where each sequence begins in the ``.bin``, in bytes, int64 |
| 8 D | document array, int64: document k owns sequences [d[k], d[k + 1]) |
| S | modes, in multimodal files only; not used here |

tokpack writes one sequence per document, and none for an empty one.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import offsets_from_lengths
from tokpack.errors import DamagedError, DocumentError, StorageError

__all__ = ["CODES", "IndexWriter", "read_offsets"]

_MAGIC = b"MMIDIDX\x00\x00"
_HEADER = struct.Struct("<9sQBQQ")
#: Megatron's codes for what tokpack stores; ids from 2**31 on do not exist there, so int32 is uint32.
CODES = {"uint16": 8, "uint32": 4}
_NAMES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float64", 7: "float32", 8: "uint16"}


class IndexWriter:
    """Collects document lengths (8 bytes each) and writes the index when the shard is complete."""

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any]) -> None:
        self._file = file
        self._dtype = dtype
        self._lengths: list[NDArray[np.int64]] = []

    def write(self, lengths: NDArray[np.int64]) -> None:
        """Append documents of so many tokens.

        Raises:
            DocumentError: one has 2**31 tokens or more.
        """
        if len(lengths) and (longest := int(lengths.max())) >= 2**31:
            raise DocumentError(f"a document of {longest:,} tokens is too long for Megatron; split it first")
        self._lengths.append(lengths.astype("<i8"))

    def close(self) -> None:
        """Write the whole index."""
        lengths = np.concatenate([np.empty(0, "<i8"), *self._lengths])
        sequences = lengths[lengths > 0]
        documents = offsets_from_lengths(lengths > 0, len(lengths))
        places = (np.cumsum(sequences) - sequences) * self._dtype.itemsize
        code = CODES[self._dtype.name]
        self._file.write(_HEADER.pack(_MAGIC, 1, code, len(sequences), len(documents)))
        for values, kind in ((sequences, "<i4"), (places, "<i8"), (documents, "<i8")):
            self._file.write(np.ascontiguousarray(values, kind).data)


def read_offsets(path: Path, dtype: np.dtype[Any]) -> NDArray[np.int64]:
    """Return document boundaries in tokens, int64 of shape (documents + 1,).

    Raises:
        DamagedError: the file is no index, holds another dtype, or contradicts itself.
        StorageError: it cannot be read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
            if len(head) < _HEADER.size:
                raise DamagedError(
                    f"{path} has {size:,} bytes, too few for a Megatron index; get the file again"
                )
            magic, version, code, sequences, documents = _HEADER.unpack(head)
            _check_header(path, size, magic, version, code, sequences, documents, dtype)
            lengths = np.fromfile(file, "<i4", sequences)
            places = np.fromfile(file, "<i8", sequences)
            owners = np.fromfile(file, "<i8", documents)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    edges = offsets_from_lengths(lengths, sequences)
    lies = (
        bool((lengths < 0).any())
        or not np.array_equal(places, edges[:-1] * dtype.itemsize)
        or owners[0] != 0
        or owners[-1] != sequences
        or bool((np.diff(owners) < 0).any())
    )
    if lies:
        raise DamagedError(
            f"{path} contradicts itself: its lengths, places and documents do not fit together; "
            "write it again with the tool that made it"
        )
    boundaries: NDArray[np.int64] = edges[owners]
    return boundaries


def _check_header(
    path: Path,
    size: int,
    magic: bytes,
    version: int,
    code: int,
    sequences: int,
    documents: int,
    dtype: np.dtype[Any],
) -> None:
    if magic != _MAGIC:
        raise DamagedError(f"{path} does not begin as a Megatron index does (MMIDIDX); is it the .idx file?")
    if version != 1:
        raise DamagedError(f"{path} is a Megatron index of version {version}; only version 1 is known")
    if code != CODES[dtype.name]:
        raise DamagedError(
            f"{path} is for tokens of {_NAMES.get(code, f'unknown code {code}')}, "
            f"the dataset's are {dtype.name}"
        )
    plain = _HEADER.size + 12 * sequences + 8 * documents
    if documents < 1 or size not in (plain, plain + sequences):
        raise DamagedError(
            f"{path} has {size:,} bytes where its header of {sequences:,} sequences and {documents - 1:,} "
            f"documents promises {plain:,}; it is truncated or damaged"
        )
