"""``npy``: one array in NumPy's own file format, opened by ``np.load(path, mmap_mode="r")``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tokpack.batches import TokenBatch
from tokpack.dtypes import TokenArray
from tokpack.npy_file import NpyArrayWriter, map_npy

__all__ = ["NpyReader", "NpyWriter"]


class NpyWriter:
    """Writes one shard as an array; document boundaries are kept beside it by the caller."""

    def __init__(
        self, file: BinaryIO, dtype: np.dtype[Any], columns: Sequence[str], options: Mapping[str, str]
    ) -> None:
        self._array = NpyArrayWriter(file, dtype)

    def write(self, batch: TokenBatch) -> None:
        """Append the tokens of ``batch``."""
        self._array.write(batch.tokens)

    def close(self) -> None:
        """Complete the header."""
        self._array.close()


class NpyReader:
    """A memory-mapped view of one ``.npy`` file."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._tokens: TokenArray = map_npy(path, dtype)

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
