"""``bin``: tokens and nothing else, little-endian, as nanoGPT's ``np.memmap(path, np.uint16)`` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tokpack.batches import TokenBatch
from tokpack.dtypes import TokenArray
from tokpack.errors import DamagedError

__all__ = ["BinReader", "BinWriter"]


class BinWriter:
    """Appends tokens to a file; document boundaries are kept beside it by the caller."""

    def __init__(
        self, file: BinaryIO, dtype: np.dtype[Any], columns: Sequence[str], options: Mapping[str, str]
    ) -> None:
        self._file = file

    def write(self, batch: TokenBatch) -> None:
        """Append the tokens of ``batch``."""
        self._file.write(np.ascontiguousarray(batch.tokens).data)

    def close(self) -> None:
        """Nothing is left to write."""


class BinReader:
    """A memory-mapped view of one file of raw tokens."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        size = path.stat().st_size
        if size % dtype.itemsize:
            raise DamagedError(
                f"{path} has {size:,} bytes, which is no multiple of {dtype.itemsize} ({dtype.name}); "
                "it is truncated or of another dtype"
            )
        # np.asarray: the memmap subclass costs microseconds on every slice. An empty file cannot be mapped.
        self._tokens: TokenArray = np.asarray(np.memmap(path, dtype, "r")) if size else np.empty(0, dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage dtype."""
        return self._tokens.dtype

    def __len__(self) -> int:
        return len(self._tokens)

    def read(self, start: int, stop: int) -> TokenArray:
        """Return tokens [start, stop) as a view."""
        return self._tokens[start:stop]

    def close(self) -> None:
        """Views keep the mapping alive; it ends with the last of them."""
