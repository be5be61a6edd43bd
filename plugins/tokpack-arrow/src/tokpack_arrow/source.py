"""Columns of Arrow IPC files, streams and Feather files as documents: text, or records."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from tokpack.errors import DamagedError
from tokpack.protocols import Slice, SourceBatch, SourceOptions
from tokpack.sources.tables import Table, describe_table
from tokpack.urls import is_url, open_input, storage_errors
from tokpack_arrow.mapping import arrow_errors, map_file
from tokpack_arrow.messages import MAGIC, Message, check_message, file_messages, stream_messages

__all__ = ["ArrowSource", "open_source"]


def open_source(options: SourceOptions) -> ArrowSource:
    """Open the source; ``text_field`` (dotted for nested ones) or ``record_fields`` say what it reads."""
    return ArrowSource(options)


@dataclass(frozen=True, slots=True)
class ArrowSource:
    """Rows of one text column, or records; a slice is a run of record batches, a position is a row number."""

    options: SourceOptions

    def plan(self, path: str, *, slice_bytes: int) -> Sequence[Slice]:
        """Cut the file into runs of record batches of about ``slice_bytes``; a URL is one slice.

        Raises:
            UsageError: there is no such column or it is no text.
            DamagedError: the file cannot be understood.
        """
        with _local(path) as local:
            data = map_file(local)
            Table.find(_open(data, path).schema, self.options, path=path)
            batches = _record_batches(data, path)
        slices: list[Slice] = []
        start = done = 0
        for stop, batch in enumerate(batches, 1):
            end = min(batch.offset + batch.nbytes, data.size)
            if end - done >= slice_bytes and stop < len(batches) and not _is_one_piece(data, batches, path):
                slices.append(Slice(path, start, stop, done, end))
                start, done = stop, end
        return [*slices, Slice(path, start, len(batches), done, data.size)]

    def describe(self, path: str) -> str:
        """Say which column is read."""
        return describe_table(self.options)

    def read(self, part: Slice) -> Iterator[SourceBatch]:
        """Yield the rows of the slice's record batches, as views into the mapped file.

        Raises:
            DamagedError: the data contradicts itself, or decompresses to more than 128 MiB at once.
        """
        with _local(part.path) as local:
            data = map_file(local)
            table = Table.find(_open(data, part.path).schema, self.options, path=part.path)
            batches = _record_batches(data, part.path)
            row = sum(batch.rows for batch in batches[: part.start])
            for batch in _read(data, table.columns, part):
                yield from table.documents(batch, first_row=row)
                row += len(batch)


def _open(
    data: pa.Buffer, path: str, *, fields: list[int] | None = None
) -> pa.RecordBatchFileReader | pa.RecordBatchStreamReader:
    options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
    with arrow_errors(path):
        return (pa.ipc.open_file if _is_file(data) else pa.ipc.open_stream)(data, options=options)


def _is_file(data: pa.Buffer) -> bool:
    return bytes(data[: len(MAGIC)]) == MAGIC


def _is_one_piece(data: pa.Buffer, batches: list[Message], path: str) -> bool:
    """Tell what is not cut: a URL, and a stream in which reaching a batch means decompressing all others."""
    return is_url(path) or (not _is_file(data) and any(batch.compressed for batch in batches))


def _record_batches(data: pa.Buffer, path: str) -> list[Message]:
    """Check every message and return the record batches."""
    view = memoryview(data)
    if not _is_file(data):
        return [message for message in stream_messages(view, path) if message.is_batch]
    dictionaries, batches = file_messages(view, path)
    for place in dictionaries:
        check_message(view, place, path)
    return [check_message(view, place, path) for place in batches]


def _read(data: pa.Buffer, names: Sequence[str], part: Slice) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of a slice, with these columns alone."""
    schema = _open(data, part.path).schema
    fields = sorted(schema.get_field_index(name) for name in names)
    reader = _open(data, part.path, fields=fields)
    for index in range(0 if not _is_file(data) else part.start, part.stop):
        with arrow_errors(part.path):
            try:
                batch = reader.get_batch(index) if _is_file(data) else reader.read_next_batch()
            except StopIteration:
                raise DamagedError(
                    f"{part.path} ends before record batch {index}; get the file again"
                ) from None
        if index >= part.start:
            yield batch


@contextmanager
def _local(path: str) -> Iterator[str]:
    """Give the path of a file to map: the file itself, or a temporary copy of what a URL names."""
    if not is_url(path):
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="tokpack-") as copy:
        with open_input(path) as remote, storage_errors(path):
            shutil.copyfileobj(remote, copy, 8 << 20)
        copy.flush()
        yield copy.name
