"""One document per line, ids in decimal; the last line counts both, so that a truncated file is noticed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tokpack.batches import TokenBatch, offsets_from_lengths
from tokpack.dtypes import TokenArray
from tokpack.errors import DamagedError


class DigitsWriter:
    """Writes one shard. The file's name, checksum and the manifest are tokpack's business."""

    def __init__(
        self, file: BinaryIO, dtype: np.dtype[Any], columns: Sequence[str], options: Mapping[str, str]
    ) -> None:
        self._file, self._documents, self._tokens = file, 0, 0

    def write(self, batch: TokenBatch) -> None:
        """Append documents."""
        for document in batch:
            self._file.write(" ".join(map(str, document.tolist())).encode() + b"\n")
        self._documents += len(batch)
        self._tokens += len(batch.tokens)

    def close(self) -> None:
        """Complete the content; the file stays open, it is the caller's."""
        self._file.write(f"{self._documents} documents, {self._tokens} tokens\n".encode())


class DigitsReader:
    """Reads one shard, all of it at once: a format for large data would not."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        *lines, last, rest = ["", *path.read_text().split("\n")]
        documents = [line.split() for line in lines[1:]]
        tokens = [token for document in documents for token in document]
        if rest or last != f"{len(documents)} documents, {len(tokens)} tokens":
            raise DamagedError(f"{path} is truncated or was edited; encode it again")
        self.dtype = dtype
        self.offsets = offsets_from_lengths(map(len, documents), len(documents))
        self._tokens: TokenArray = np.array(tokens, dtype=dtype)

    def __len__(self) -> int:
        return len(self._tokens)

    def read(self, start: int, stop: int) -> TokenArray:
        """Return tokens [start, stop) as a view."""
        return self._tokens[start:stop]

    def close(self) -> None:
        """Nothing is open."""
