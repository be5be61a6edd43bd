"""Pieces: the tokens of one unit and one split, on their way from a worker to a shard.

A piece is a set of raw arrays in the unit's folder: ``SPLIT.tokens`` (storage dtype), ``SPLIT.lengths``
(int64, tokens per document) and one array per further column. Its CRC-32s stand in the unit's record, so a
piece that a crash has torn is found when work resumes, and no piece needs an fsync of its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import TokenBatch, iter_ranges, offsets_from_lengths

__all__ = ["PieceInfo", "PieceWriter", "is_intact", "read_piece"]

_LENGTHS = np.dtype("<i8")


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceInfo:
    """What a piece holds, and the CRC-32 of each of its arrays by name."""

    documents: int = 0
    tokens: int = 0
    text_bytes: int = 0
    checksums: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


class PieceWriter:
    """Streams the documents of one split into a unit's folder."""

    def __init__(self, folder: Path, split: str, columns: Sequence[str] = ()) -> None:
        names = ["tokens", "lengths", *columns]
        self._files = {name: (folder / f"{split}.{name}").open("wb") for name in names}
        self._checksums = dict.fromkeys(names, 0)
        self._sizes = dict.fromkeys(names, 0)
        self._documents = self._tokens = self._text_bytes = 0

    def write(self, batch: TokenBatch, text_bytes: int) -> None:
        """Append documents that came from ``text_bytes`` bytes of text."""
        self._append("tokens", batch.tokens)
        self._append("lengths", batch.lengths.astype(_LENGTHS, copy=False))
        for name, values in batch.columns.items():
            self._append(name, values)
        self._documents += len(batch)
        self._tokens += len(batch.tokens)
        self._text_bytes += text_bytes

    def _append(self, name: str, values: NDArray[Any]) -> None:
        view = np.ascontiguousarray(values).view(np.uint8).data
        self._checksums[name] = zlib.crc32(view, self._checksums[name])
        self._sizes[name] += len(view)
        self._files[name].write(view)

    def close(self) -> PieceInfo:
        """Close the files and say what they hold."""
        for file in self._files.values():
            file.close()
        return PieceInfo(
            documents=self._documents,
            tokens=self._tokens,
            text_bytes=self._text_bytes,
            checksums=self._checksums,
            sizes=self._sizes,
        )


def is_intact(folder: Path, split: str, info: PieceInfo) -> bool:
    """Whether all arrays of a piece are on disk just as they were written."""
    for name, expected in info.checksums.items():
        path = folder / f"{split}.{name}"
        if not path.is_file() or path.stat().st_size != info.sizes[name]:
            return False
        checksum = 0
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                checksum = zlib.crc32(block, checksum)
        if checksum != expected:
            return False
    return True


def read_piece(
    folder: Path, split: str, info: PieceInfo, dtype: np.dtype[Any], *, batch_tokens: int = 1 << 20
) -> Iterator[TokenBatch]:
    """Yield a piece's documents in batches of about ``batch_tokens`` tokens."""
    if not info.documents:
        return
    lengths = np.fromfile(folder / f"{split}.lengths", _LENGTHS)
    offsets = offsets_from_lengths(lengths, len(lengths))
    tokens = _map(folder / f"{split}.tokens", dtype, info.tokens)
    names = [name for name in info.checksums if name not in ("tokens", "lengths")]
    columns = {name: _map(folder / f"{split}.{name}", np.dtype(np.uint8), info.tokens) for name in names}
    for first, last in iter_ranges(offsets, batch_tokens):
        start, stop = int(offsets[first]), int(offsets[last])
        yield TokenBatch(
            tokens[start:stop],
            offsets[first : last + 1] - start,
            {name: values[start:stop] for name, values in columns.items()},
        )


def _map(path: Path, dtype: np.dtype[Any], length: int) -> NDArray[Any]:
    return np.asarray(np.memmap(path, dtype, "r")) if length else np.empty(0, dtype)
