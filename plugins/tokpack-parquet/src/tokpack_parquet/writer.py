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
from tokpack.dtypes import COLUMN_DTYPES
from tokpack.errors import DocumentError, UsageError
from tokpack.formats.groups import MAX_GROUP_TOKENS, Groups

__all__ = ["TOKENS_KEY", "ParquetWriter"]

#: Key of the footer under which the tokens of each row group stand, as a JSON list.
TOKENS_KEY = b"tokpack.row_group_tokens"

_COMPRESSIONS = ("zstd", "snappy", "gzip", "lz4", "none")
_ENCODINGS = {"split": "BYTE_STREAM_SPLIT", "plain": "PLAIN", "dictionary": None}


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
        self._pending = Groups(_number(options, "row_group_tokens", 1 << 20, 1, MAX_GROUP_TOKENS))
        if unknown := [name for name in columns if name not in COLUMN_DTYPES]:
            raise UsageError(
                f"parquet holds {', '.join(COLUMN_DTYPES)} beside the ids, not {', '.join(unknown)}"
            )
        further = {name: pa.from_numpy_dtype(COLUMN_DTYPES[name]) for name in columns}
        self._types = {"input_ids": self._ids_type, **further}
        self._schema = pa.schema([(name, pa.list_(kind)) for name, kind in self._types.items()])
        self._writer = _Writer(file, self._schema, **_properties(options, list(self._types)))
        self._groups: list[int] = []

    def write(self, batch: TokenBatch) -> None:
        """Append documents; whole row groups are written, the rest waits for more.

        Raises:
            DocumentError: a document is too long for a Parquet list.
        """
        for group in self._pending.add(batch):
            self._write_group(group)

    def close(self) -> None:
        """Write what is left and the footer."""
        if (group := self._pending.rest()) is not None:
            self._write_group(group)
        self._writer.add_key_value_metadata({TOKENS_KEY: json.dumps(self._groups)})
        self._writer.close()

    def _write_group(self, group: TokenBatch) -> None:
        offsets = pa.array(group.offsets.astype(np.int32))
        arrays = [
            pa.ListArray.from_arrays(
                offsets, _values(group.tokens if name == "input_ids" else group.columns[name], kind)
            )
            for name, kind in self._types.items()
        ]
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema), len(group))
        self._groups.append(len(group.tokens))


def _values(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
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
