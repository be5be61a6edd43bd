"""Random access to the tokens of a memory-mapped Arrow IPC file."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tokpack.batches import offsets_from_lengths
from tokpack.dtypes import COLUMN_DTYPES, TokenArray
from tokpack.errors import DamagedError
from tokpack.formats.segments import gather_segments, read_segments
from tokpack_arrow.mapping import arrow_errors, map_file
from tokpack_arrow.messages import check_message, file_messages
from tokpack_arrow.writer import STARTS_KEY

__all__ = ["ArrowReader"]


class ArrowReader:
    """The ``input_ids`` of one file as one axis of tokens.

    Opening reads the footer and the metadata of one record batch. Reads within a record batch are views into
    the mapped file.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._path = path
        self._dtype = dtype
        mapped = map_file(path)
        self._data = memoryview(mapped)
        _, self._places = file_messages(self._data, str(path))
        with arrow_errors(str(path)):
            self._file = pa.ipc.open_file(mapped)
            _ = self._file.schema.names  # here, so that names that are no text are told like the rest
        self._check_type("input_ids", dtype)
        self._batches: dict[int, pa.RecordBatch] = {}
        self._arrays: dict[tuple[int, str], NDArray[Any]] = {}
        self._starts = self._read_starts()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage dtype."""
        return self._dtype

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Document boundaries, int64 of shape (rows + 1,)."""
        lengths = [np.empty(0, np.int64)]
        for index in range(len(self._places)):
            edges = self._list(index, "input_ids").offsets.to_numpy()
            lengths.append(np.diff(edges).astype(np.int64))
            if len(lengths[-1]) and lengths[-1].min() < 0:
                raise DamagedError(f"{self._path} has document boundaries that do not rise; encode it again")
        joined = np.concatenate(lengths)
        return offsets_from_lengths(joined, len(joined))

    def read(self, start: int, stop: int) -> TokenArray:
        """Return tokens [start, stop): a view within a record batch, a copy across several."""
        return read_segments(self._starts, self._tokens, start, stop, self._dtype)

    def gather(self, starts: NDArray[np.int64], out: TokenArray) -> None:
        """Fill ``out`` (rows, length) with tokens [starts[i], starts[i] + length)."""
        gather_segments(self._starts, self._tokens, starts, out)

    def column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return the values of a further per-token column for tokens [start, stop)."""
        if name not in COLUMN_DTYPES or name not in self._file.schema.names:
            raise DamagedError(f"{self._path} has no column {name!r}; encode it again with that column")
        self._check_type(name, COLUMN_DTYPES[name])
        values = partial(self._values, name=name)
        return read_segments(self._starts, values, start, stop, COLUMN_DTYPES[name])

    def close(self) -> None:
        """Views keep the mapping alive; it ends with the last of them."""

    def _tokens(self, index: int) -> NDArray[Any]:
        return self._values(index, "input_ids")

    def _values(self, index: int, name: str) -> NDArray[Any]:
        if (values := self._arrays.get((index, name))) is None:
            lists = self._list(index, name)
            edges = lists.offsets
            first, last = (edges[0].as_py(), edges[-1].as_py()) if len(lists) else (0, 0)
            expected = int(self._starts[index + 1] - self._starts[index])
            if not 0 <= first <= last <= len(lists.values) or last - first != expected:
                raise DamagedError(
                    f"{self._path} contradicts itself in record batch {index}; encode it again"
                )
            values = self._arrays[index, name] = lists.values.to_numpy()[first:last]
        return values

    def _list(self, index: int, name: str) -> pa.ListArray:
        if (batch := self._batches.get(index)) is None:
            check_message(self._data, self._places[index], str(self._path))
            with arrow_errors(str(self._path)):
                batch = self._batches[index] = self._file.get_batch(index)
        lists = batch.column(name)
        with arrow_errors(str(self._path)):
            lists.validate()
        if lists.null_count or lists.values.null_count:
            raise DamagedError(f"{self._path} has nulls in {name} of record batch {index}; encode it again")
        return lists

    def _read_starts(self) -> NDArray[np.int64]:
        """Token at which each record batch begins, and the end; counted where no batch says it."""
        count = len(self._places)
        if not count:
            return np.zeros(1, np.int64)
        check_message(self._data, self._places[-1], str(self._path))
        with arrow_errors(str(self._path)):
            _, metadata = self._file.get_batch_with_custom_metadata(count - 1)
        stated = None if metadata is None else metadata.get(STARTS_KEY)
        if stated is None:
            edges = [self._list(index, "input_ids").offsets for index in range(count)]
            spans = [edge[-1].as_py() - edge[0].as_py() if len(edge) else 0 for edge in edges]
            return offsets_from_lengths(spans, count)
        starts = np.frombuffer(stated, "<i8") if len(stated) == 8 * (count + 1) else np.full(2, -1)
        if starts[0] != 0 or (np.diff(starts) < 0).any() or int(starts[-1]) > len(self._data):
            raise DamagedError(
                f"{self._path} states impossible places of its record batches; encode it again"
            )
        return starts

    def _check_type(self, name: str, dtype: np.dtype[Any]) -> None:
        schema = self._file.schema
        if (index := schema.get_field_index(name)) < 0:
            names = ", ".join(schema.names[:20]) or "none"
            raise DamagedError(f"{self._path} has no column {name}, only: {names}; is it a file of tokens?")
        kind = schema.field(index).type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if not is_list or kind.value_type != pa.from_numpy_dtype(dtype):
            raise DamagedError(f"{name} of {self._path} holds {str(kind)[:80]}, not lists of {dtype.name}")
