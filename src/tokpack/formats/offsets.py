"""``NAME.offsets.npy``: document boundaries beside formats that are tokens and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tokpack.npy_file import NpyArrayWriter, map_npy

__all__ = ["OffsetsWriter", "read_offsets"]

_OFFSETS = np.dtype("<i8")


class OffsetsWriter:
    """Streams offsets, first 0, as one array in NumPy's own format."""

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any]) -> None:
        self._array = NpyArrayWriter(file, _OFFSETS)
        self._array.write(np.zeros(1, _OFFSETS))
        self._last = 0

    def write(self, lengths: NDArray[np.int64]) -> None:
        """Append documents of so many tokens."""
        ends = np.cumsum(lengths, dtype=_OFFSETS) + self._last
        self._array.write(ends)
        self._last = int(ends[-1]) if len(ends) else self._last

    def close(self) -> None:
        """Complete the header."""
        self._array.close()


def read_offsets(path: Path, dtype: np.dtype[Any]) -> NDArray[np.int64]:
    """Map the offsets. Raises DamagedError where the file is no such array."""
    return map_npy(path, _OFFSETS)
