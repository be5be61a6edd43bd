"""The shards of llm.c and of what reads them: 256 integers of header, then tokens.

| ``variant`` | first integers | tokens | read by |
|---|---|---|---|
| ``gpt2`` | 20240520, 1, count | uint16 | llm.c, modded-nanogpt, cached FineWeb shards |
| ``llama3`` | 20240801, 7, count | uint32 | llm.c for Llama 3 |
| ``automodel`` | 278895051, 1, count, bytes per token | uint16 or uint32 | NeMo Automodel |

The count is an int32, so a shard stays below 2**31 tokens. These trainers expect a document to *begin* with
its end-of-text token: encode with ``--bos --no-eos`` for them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tokpack.batches import TokenBatch
from tokpack.dtypes import TokenArray
from tokpack.errors import DamagedError, DocumentError, StorageError, UsageError
from tokpack_megatron.tokens import map_tokens

__all__ = ["HEADER_BYTES", "LlmcReader", "LlmcWriter"]

HEADER_BYTES = 1024
_VARIANTS = {"gpt2": (20240520, 1), "llama3": (20240801, 7), "automodel": (278895051, 1)}
_WIDTHS = {"gpt2": (2,), "llama3": (4,), "automodel": (2, 4)}
_MOST_TOKENS = 2**31 - 1


class LlmcWriter:
    """Writes tokens behind a header; the count in it is completed at the end."""

    def __init__(
        self, file: BinaryIO, dtype: np.dtype[Any], columns: Sequence[str], options: Mapping[str, str]
    ) -> None:
        natural = "gpt2" if dtype.itemsize == 2 else "llama3"
        self._variant = options.get("variant", natural)
        if self._variant not in _VARIANTS:
            raise UsageError(f"variant is {self._variant!r}; choose one of: {', '.join(_VARIANTS)}")
        if dtype.itemsize not in _WIDTHS[self._variant]:
            raise UsageError(f"variant {self._variant!r} does not hold {dtype.name} tokens; use {natural!r}")
        self._file = file
        self._dtype = dtype
        self._tokens = 0
        self._file.write(self._header())

    def write(self, batch: TokenBatch) -> None:
        """Append the tokens of ``batch``.

        Raises:
            DocumentError: the shard would pass 2**31 - 1 tokens.
        """
        self._tokens += len(batch.tokens)
        if self._tokens > _MOST_TOKENS:
            raise DocumentError(
                f"a shard of llm.c holds at most {_MOST_TOKENS:,} tokens; use --shard-bytes 200MB"
            )
        self._file.write(np.ascontiguousarray(batch.tokens).data)

    def close(self) -> None:
        """Write the header again, now with the true count."""
        self._file.seek(0)
        self._file.write(self._header())
        self._file.seek(0, 2)

    def _header(self) -> bytes:
        width = self._dtype.itemsize if self._variant == "automodel" else 0
        start = struct.pack("<4i", *_VARIANTS[self._variant], self._tokens, width)
        return start.ljust(HEADER_BYTES, b"\0")


class LlmcReader:
    """A memory-mapped view of the tokens behind the header, of any variant."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        try:
            with path.open("rb") as file:
                head = file.read(HEADER_BYTES)
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        if len(head) < HEADER_BYTES:
            raise DamagedError(
                f"{path} has {len(head):,} bytes, less than llm.c's header of {HEADER_BYTES:,}"
            )
        magic, version, count, stated_width = struct.unpack_from("<4i", head)
        variant = next((name for name, known in _VARIANTS.items() if known == (magic, version)), None)
        if variant is None:
            raise DamagedError(f"{path} begins with {magic}, {version}: no token file of llm.c that is known")
        width = stated_width if variant == "automodel" else _WIDTHS[variant][0]
        if width != dtype.itemsize:
            raise DamagedError(
                f"{path} has {width} bytes per token, the dataset has {dtype.itemsize} ({dtype.name})"
            )
        self._tokens = map_tokens(path, dtype, HEADER_BYTES)
        if len(self._tokens) != count:
            raise DamagedError(
                f"{path} holds {len(self._tokens):,} tokens where its header promises {count:,}; "
                "it is truncated"
            )

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
