"""Megatron's ``.bin``: tokens and nothing else, uint16 or int32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tokpack.batches import TokenBatch
from tokpack.dtypes import TokenArray
from tokpack.errors import DamagedError, DocumentError

__all__ = ["TokensReader", "TokensWriter"]


class TokensWriter:
    """Appends tokens; ids that do not fit Megatron's int32 are refused."""

    def __init__(
        self, file: BinaryIO, dtype: np.dtype[Any], columns: Sequence[str], options: Mapping[str, str]
    ) -> None:
        self._file = file

    def write(self, batch: TokenBatch) -> None:
        """Append the tokens of ``batch``.

        Raises:
            DocumentError: an id is 2**31 or greater.
        """
        tokens = batch.tokens
        if tokens.dtype.itemsize == 4 and len(tokens) and (largest := int(tokens.max())) >= 2**31:
            raise DocumentError(f"token id {largest:,} does not fit Megatron's int32; choose another format")
        self._file.write(np.ascontiguousarray(tokens).data)

    def close(self) -> None:
        """Nothing is left to write."""


class TokensReader:
    """A memory-mapped view of one ``.bin`` file."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._tokens = map_tokens(path, dtype)

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


def map_tokens(path: Path, dtype: np.dtype[Any], offset: int = 0) -> TokenArray:
    """Map the tokens that follow the first ``offset`` bytes. Raises DamagedError, StorageError."""
    size = path.stat().st_size - offset
    if size % dtype.itemsize:
        raise DamagedError(
            f"{path} has {size:,} bytes of tokens, no multiple of {dtype.itemsize} ({dtype.name}); "
            "it is truncated"
        )
    # np.asarray: the memmap subclass costs microseconds on every slice. An empty range cannot be mapped.
    return np.asarray(np.memmap(path, dtype, "r", offset)) if size else np.empty(0, dtype)
