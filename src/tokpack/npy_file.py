"""One-dimensional arrays in NumPy's own file format: streamed out, mapped in, never unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from tokpack.errors import DamagedError

__all__ = ["NpyArrayWriter", "map_npy"]


class NpyArrayWriter:
    """Streams a one-dimensional array of unknown length into an open, seekable file."""

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any]) -> None:
        self._file = file
        self._dtype = dtype
        self._length = 0
        self._write_header()

    def write(self, values: NDArray[Any]) -> None:
        """Append ``values``, which have the writer's dtype."""
        self._file.write(np.ascontiguousarray(values, self._dtype).data)
        self._length += len(values)

    def close(self) -> None:
        """Write the header again, now with the true length: NumPy pads it, so its size stays the same."""
        self._file.seek(0)
        self._write_header()
        self._file.seek(0, 2)

    def _write_header(self) -> None:
        descr = npy_format.dtype_to_descr(self._dtype)
        header = {"descr": descr, "fortran_order": False, "shape": (self._length,)}
        npy_format.write_array_header_1_0(self._file, header)


def map_npy(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Map a one-dimensional ``.npy`` file of exactly ``dtype``; nothing in it is ever unpickled.

    Raises:
        DamagedError: not such a file, truncated, or followed by further bytes (which NumPy would ignore).
    """
    try:
        with path.open("rb") as file:
            major, minor = npy_format.read_magic(file)
            if (major, minor) != (1, 0):
                raise ValueError(f"version {major}.{minor}")
            shape, fortran_order, found = npy_format.read_array_header_1_0(file)
            header_bytes = file.tell()
    except (ValueError, EOFError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise DamagedError(
            f"{path} is not a .npy file as NumPy writes it ({error}); encode it again"
        ) from error
    if found != dtype or len(shape) != 1 or fortran_order:
        raise DamagedError(f"{path} holds {found} of shape {shape}, expected one axis of {dtype.name}")
    size, expected = path.stat().st_size, header_bytes + shape[0] * dtype.itemsize
    if size != expected:
        raise DamagedError(
            f"{path} has {size:,} bytes where its header promises {expected:,}; encode it again"
        )
    if not shape[0]:
        return np.empty(0, dtype)
    return np.asarray(np.memmap(path, dtype, "r", offset=header_bytes, shape=shape))
