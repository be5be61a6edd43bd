"""Writing token ids as rows of an Arrow IPC file, straight from the flat arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from tokpack.batches import TokenBatch, offsets_from_lengths
from tokpack.dtypes import COLUMN_DTYPES
from tokpack.errors import UsageError
from tokpack.formats.groups import MAX_GROUP_TOKENS, Groups

__all__ = ["STARTS_KEY", "ArrowWriter"]

#: Key in the metadata of the last record batch: where each batch begins, and the end, as int64.
STARTS_KEY = b"tokpack.batch_starts"


class ArrowWriter:
    """Writes documents as rows of ``input_ids``, a list of uint16 or uint32, uncompressed.

    Record batches end at the first document boundary at or after ``batch_tokens`` tokens, so the bytes do not
    depend on how the documents were batched. The last one says where all of them begin, so that a reader need
    not look at each. Option: ``batch_tokens`` (4,194,304).
    """

    def __init__(
        self, file: BinaryIO, dtype: np.dtype[Any], columns: Sequence[str], options: Mapping[str, str]
    ) -> None:
        text = options.get("batch_tokens", str(1 << 22))
        if not text.isdecimal() or not 1 <= int(text) <= MAX_GROUP_TOKENS:
            raise UsageError(f"batch_tokens is {text!r}; give a whole number from 1 to {MAX_GROUP_TOKENS:,}")
        if unknown := [name for name in columns if name not in COLUMN_DTYPES]:
            raise UsageError(
                f"arrow holds {', '.join(COLUMN_DTYPES)} beside the ids, not {', '.join(unknown)}"
            )
        dtypes = {"input_ids": dtype, **{name: COLUMN_DTYPES[name] for name in columns}}
        self._schema = pa.schema(
            [(name, pa.list_(pa.from_numpy_dtype(kind))) for name, kind in dtypes.items()]
        )
        self._dtypes = dtypes
        self._groups = Groups(int(text))
        self._writer = pa.ipc.new_file(file, self._schema)
        self._waiting: TokenBatch | None = None
        self._lengths: list[int] = []

    def write(self, batch: TokenBatch) -> None:
        """Append documents; whole record batches are written, the rest waits for more.

        Raises:
            DocumentError: a document is too long for an Arrow list.
        """
        for group in self._groups.add(batch):
            self._put(group)

    def close(self) -> None:
        """Write what is left and the footer."""
        if (rest := self._groups.rest()) is not None:
            self._put(rest)
        if self._waiting is not None:
            starts = offsets_from_lengths(self._lengths, len(self._lengths))
            self._write(self._waiting, {STARTS_KEY: starts.astype("<i8").tobytes()})
        self._writer.close()

    def _put(self, group: TokenBatch) -> None:
        if self._waiting is not None:
            self._write(self._waiting, None)
        self._waiting = group
        self._lengths.append(len(group.tokens))

    def _write(self, group: TokenBatch, metadata: dict[bytes, bytes] | None) -> None:
        offsets = pa.array(group.offsets.astype(np.int32))
        arrays = []
        for name, kind in self._dtypes.items():
            values = group.tokens if name == "input_ids" else group.columns[name]
            arrays.append(pa.ListArray.from_arrays(offsets, pa.array(values.astype(kind, copy=False))))
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema), metadata)
