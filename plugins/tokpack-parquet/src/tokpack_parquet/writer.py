"""Writing token ids as rows of a Parquet file, straight from the flat arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tokpack.batches import TokenBatch
from tokpack.errors import DocumentError, UsageError

__all__ = ["COLUMN_TYPES", "TOKENS_KEY", "ParquetWriter"]

#: Further columns of one value per token.
COLUMN_TYPES: Mapping[str, pa.DataType] = {
    "attention_mask": pa.uint8(),
    "loss_mask": pa.uint8(),
    "segment_ids": pa.int32(),
}
#: Key of the footer under which the tokens of each row group stand, as a JSON list.
TOKENS_KEY = b"tokpack.row_group_tokens"

_COMPRESSIONS = ("zstd", "snappy", "gzip", "lz4", "none")
_ENCODINGS = {"split": "BYTE_STREAM_SPLIT", "plain": "PLAIN", "dictionary": None}
#: A row group stays below 2**31 tokens whatever its last document adds, so its list offsets fit 32 bits.
_MAX_TOKENS = 1 << 30
_MAX_ROWS = 1 << 18


class _Writer(pq.ParquetWriter):  # type: ignore[misc]
    def __del__(self) -> None:
        """Leave an abandoned file alone: it is the caller's, and may be closed already."""


class ParquetWriter:
    """Writes documents as rows of ``input_ids``, a list of uint16 or uint32.

    Row groups end at the first document boundary at or after ``row_group_tokens`` tokens, so the bytes do not
    depend on how the documents were batched. Options: ``compression`` (zstd), ``compression_level``,
    ``encoding`` (split, plain or dictionary), ``ids_type`` (the storage dtype, or int32 for tools that want
    signed ids), ``row_group_tokens`` (1,048,576).
    """

    def __init__(
        self, file: BinaryIO, dtype: np.dtype[Any], columns: Sequence[str], options: Mapping[str, str]
    ) -> None:
        self._ids_type = _ids_type(options.get("ids_type", dtype.name), dtype)
        self._group_tokens = _number(options, "row_group_tokens", 1 << 20, 1, _MAX_TOKENS)
        if unknown := [name for name in columns if name not in COLUMN_TYPES]:
            raise UsageError(
                f"parquet holds {', '.join(COLUMN_TYPES)} beside the ids, not {', '.join(unknown)}"
            )
        self._types = {"input_ids": self._ids_type, **{name: COLUMN_TYPES[name] for name in columns}}
        self._schema = pa.schema([(name, pa.list_(kind)) for name, kind in self._types.items()])
        self._writer = _Writer(file, self._schema, **_properties(options, list(self._types)))
        self._pending: list[TokenBatch] = []
        self._pending_tokens = self._pending_rows = 0
        self._groups: list[int] = []

    def write(self, batch: TokenBatch) -> None:
        """Append documents; whole row groups are written, the rest waits for more.

        Raises:
            DocumentError: a document is too long for a Parquet list.
        """
        if len(batch) and int(batch.lengths.max()) > _MAX_TOKENS:
            raise DocumentError(
                f"a document of {int(batch.lengths.max()):,} tokens is longer than a Parquet list can be "
                f"({_MAX_TOKENS:,}); use --format bin, or split it before encoding"
            )
        start = 0
        while start < len(batch):
            wanted = int(batch.offsets[start]) + self._group_tokens - self._pending_tokens
            stop = int(np.searchsorted(batch.offsets, wanted, side="left"))
            stop = min(stop, len(batch), start + _MAX_ROWS - self._pending_rows)
            self._pending.append(_part(batch, start, stop))
            self._pending_tokens += int(batch.offsets[stop] - batch.offsets[start])
            self._pending_rows += stop - start
            start = stop
            if self._pending_tokens >= self._group_tokens or self._pending_rows >= _MAX_ROWS:
                self._flush()

    def close(self) -> None:
        """Write what is left and the footer."""
        if self._pending_rows:
            self._flush()
        self._writer.add_key_value_metadata({TOKENS_KEY: json.dumps(self._groups).encode()})
        self._writer.close()

    def _flush(self) -> None:
        lengths = np.concatenate([batch.lengths for batch in self._pending])
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        arrays = []
        for name, kind in self._types.items():
            values = [batch.tokens if name == "input_ids" else batch.columns[name] for batch in self._pending]
            arrays.append(pa.ListArray.from_arrays(offsets, _values(values, kind)))
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema), self._pending_rows)
        self._groups.append(self._pending_tokens)
        self._pending, self._pending_tokens, self._pending_rows = [], 0, 0


def _part(batch: TokenBatch, start: int, stop: int) -> TokenBatch:
    first, last = int(batch.offsets[start]), int(batch.offsets[stop])
    columns = {name: values[first:last] for name, values in batch.columns.items()}
    return TokenBatch(batch.tokens[first:last], batch.offsets[start : stop + 1] - first, columns)


def _values(parts: list[NDArray[Any]], kind: pa.DataType) -> pa.Array:
    values = np.concatenate(parts) if len(parts) > 1 else parts[0]
    if kind == pa.int32() and values.dtype == np.uint32 and len(values) and int(values.max()) >= 2**31:
        raise DocumentError(f"token id {int(values.max()):,} does not fit int32; leave ids_type out")
    return pa.array(values.astype(kind.to_pandas_dtype(), copy=False))


def _ids_type(name: str, dtype: np.dtype[Any]) -> pa.DataType:
    known = {
        dtype.name: pa.from_numpy_dtype(dtype),
        "uint32": pa.uint32(),
        "int32": pa.int32(),
        "int64": pa.int64(),
    }
    if name not in known:
        raise UsageError(f"ids_type is {name!r}; choose one of: {', '.join(known)}")
    return known[name]


def _number(options: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = options.get(name, str(default))
    if not text.isdecimal() or not low <= int(text) <= high:
        raise UsageError(f"{name} is {text!r}; give a whole number from {low:,} to {high:,}")
    return int(text)


def _properties(options: Mapping[str, str], names: list[str]) -> dict[str, Any]:
    compression = options.get("compression", "zstd")
    encoding = options.get("encoding", "split")
    if compression not in _COMPRESSIONS:
        raise UsageError(f"compression is {compression!r}; choose one of: {', '.join(_COMPRESSIONS)}")
    if encoding not in _ENCODINGS:
        raise UsageError(f"encoding is {encoding!r}; choose one of: {', '.join(_ENCODINGS)}")
    properties: dict[str, Any] = {
        "compression": compression,
        "write_page_index": True,  # with small pages, a reader that seeks by row decodes little
        "data_page_size": 256 << 10,
        "write_statistics": False,  # the least and greatest id of a page help nobody
        "use_dictionary": encoding == "dictionary",
    }
    if encoding != "dictionary":
        leaves = [f"{name}.list.element" for name in names if name in ("input_ids", "segment_ids")]
        properties["column_encoding"] = dict.fromkeys(leaves, _ENCODINGS[encoding])
    if "compression_level" in options:
        properties["compression_level"] = _number(options, "compression_level", 3, 1, 22)
    return properties
