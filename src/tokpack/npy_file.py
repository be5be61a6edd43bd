"""One-dimensional arrays in NumPy's own file format: streamed out, mapped in, never unpickled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from tokpack.errors import DamagedError

__all__ = ["NpyArrayWriter", "map_npy"]

_MAGIC = b"\x93NUMPY\x01\x00"
#: What NumPy writes, and nothing else: its own reader parses Python, which is slow, and fails where several
#: threads do it at a time (CPython issue 106905).
_HEADER = re.compile(
    rb"\{'descr': '([^'\\]{1,16})', 'fortran_order': (True|False), 'shape': \(([0-9, ]{0,64})\), \} *\n"
)
_ONE_AXIS = re.compile(r"[0-9]{1,18},")


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
    with path.open("rb") as file:
        beginning = file.read(len(_MAGIC) + 2)
        header_bytes = len(beginning) + int.from_bytes(beginning[-2:], "little")
        header = _HEADER.fullmatch(file.read(header_bytes - len(beginning)))
    if not beginning.startswith(_MAGIC) or header is None:
        raise DamagedError(f"{path} is not a .npy file as NumPy writes it; encode it again")
    descr, fortran, shape = (part.decode("latin1") for part in header.groups())
    if descr != npy_format.dtype_to_descr(dtype) or fortran != "False" or not _ONE_AXIS.fullmatch(shape):
        raise DamagedError(f"{path} holds {descr} of shape ({shape}), expected one axis of {dtype.name}")
    length = int(shape[:-1])
    size, expected = path.stat().st_size, header_bytes + length * dtype.itemsize
    if size != expected:
        raise DamagedError(
            f"{path} has {size:,} bytes where its header promises {expected:,}; encode it again"
        )
    if not length:
        return np.empty(0, dtype)
    return np.asarray(np.memmap(path, dtype, "r", offset=header_bytes, shape=(length,)))
