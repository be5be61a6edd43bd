"""Rows of Arrow data as documents: one column of text, or records of several columns such as conversations.

What a record holds are Arrow lists, structs and scalars; it becomes the JSON object that a line of JSONL
would be. A table says of every field that it is there, so a field that is null counts as one that is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tokpack.batches import TextBatch
from tokpack.errors import DamagedError, UsageError
from tokpack.protocols import Problem, SourceBatch, SourceOptions
from tokpack.sources.columnar import column_names, find_text_column, text_batches
from tokpack.sources.problems import settle

__all__ = ["Table", "describe_table"]


def describe_table(options: SourceOptions) -> str:
    """Say which column is read."""
    return f"one document per row of column {(options.record_fields or (options.text_field,))[0]!r}"


@dataclass(frozen=True, slots=True)
class Table:
    """What to read of one file, as the options ask for and its schema allows."""

    path: str
    options: SourceOptions
    columns: tuple[str, ...]  # of the schema, the required one first
    steps: tuple[str, ...] = ()  # from the column to the text within it; none for records

    @classmethod
    def find(cls, schema: pa.Schema, options: SourceOptions, *, path: str) -> Table:
        """Find the columns.

        Raises:
            UsageError: there is none of that name, or it holds no text.
            DamagedError: the names of the columns are not UTF-8.
        """
        if not options.record_fields:
            first, *steps = find_text_column(schema, options.text_field, path=path)
            return cls(path, options, (first,), (first, *steps))
        names = column_names(schema, path=path)
        required = options.record_fields[0]
        if required not in names:
            raise UsageError(
                f"{path} has no column {required!r}; its columns are: {', '.join(names[:20]) or 'none'}; "
                "name the one to read"
            )
        return cls(path, options, tuple(name for name in options.record_fields if name in names))

    def documents(self, batch: pa.RecordBatch, *, first_row: int) -> Iterator[SourceBatch]:
        """Yield the rows of a batch that has `columns`, as documents; positions count from ``first_row``.

        Raises:
            DamagedError: the batch contradicts itself.
            DocumentError: a row is broken, and ``on_error`` is ``fail``.
        """
        if not self.steps:
            yield from self._records(batch, first_row)
            return
        column = batch.column(self.columns[0])
        if len(self.steps) > 1:
            column = pc.struct_field(column, list(self.steps[1:]))
        yield from text_batches(column, path=self.path, first_row=first_row, options=self.options)

    def _records(self, batch: pa.RecordBatch, first_row: int) -> Iterator[SourceBatch]:
        columns = {name: batch.column(name) for name in self.columns}
        for column in columns.values():
            _check(column, self.path)
        records: list[bytes] = []
        rows: list[int] = []
        problems: list[Problem] = []
        size = 0
        for index in range(len(batch)):
            found = self._record(columns, index, first_row + index)
            if isinstance(found, Problem):
                problems.append(found)
                continue
            records.append(found)
            rows.append(first_row + index)
            size += len(found)
            if size >= self.options.batch_bytes:
                yield _batch(records, rows, problems)
                records, rows, problems, size = [], [], [], 0
        yield _batch(records, rows, problems)

    def _record(self, columns: dict[str, pa.Array], index: int, row: int) -> bytes | Problem:
        if not columns[self.columns[0]][index].is_valid:
            return Problem("null", self.path, row, "the row holds no value", "skipped")
        on_error, limit = self.options.on_error, self.options.max_document_bytes
        try:
            record = _without_nulls({name: column[index].as_py() for name, column in columns.items()})
            content = msgspec.json.encode(record)
        except UnicodeDecodeError as error:
            detail = f"byte 0x{error.object[error.start]:02x} at {error.start:,} of a text in it"
            problem = settle("invalid-utf8", self.path, row, detail, on_error=on_error, unit="row")
            return problem._replace(action="skipped")
        except (TypeError, ValueError, RecursionError) as error:
            return settle("bad-chat", self.path, row, f"{error}", on_error=on_error, unit="row")
        if len(content) > limit:
            detail = f"{len(content):,} bytes, more than max_document_bytes ({limit:,})"
            return settle("too-large", self.path, row, detail, on_error=on_error, unit="row")
        return content


def _check(column: pa.Array, path: str) -> None:
    """Check everything that Python would follow. That text is UTF-8 is not part of it: that is each row's."""
    try:
        column.validate()
        with suppress(pa.ArrowNotImplementedError):
            column = column.cast(_as_bytes(column.type))
        column.validate(full=True)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:  # the last is of names within
        raise DamagedError(f"{path} is damaged: {error}; get the file again") from error


def _as_bytes(kind: pa.DataType) -> pa.DataType:
    """Return the type with bytes for text."""
    if pa.types.is_string(kind):
        return pa.binary()
    if pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_list(kind):
        return pa.list_(_as_bytes(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(_as_bytes(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _as_bytes(field.type)) for field in kind])
    return kind


def _batch(records: list[bytes], rows: list[int], problems: list[Problem]) -> SourceBatch:
    return SourceBatch(TextBatch.from_utf8(records), np.array(rows, np.int64), tuple(problems))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
