"""Columns of Parquet files as documents: text, or records such as conversations."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from tokpack.errors import DamagedError
from tokpack.protocols import Slice, SourceBatch, SourceOptions
from tokpack.sources.tables import Table, describe_table
from tokpack.urls import is_url, open_input, storage_errors
from tokpack_parquet.footer import Chunk, RowGroup, decoder, open_parquet, parquet_errors
from tokpack_parquet.pages import Page, iter_pages, rows_within

__all__ = ["ParquetSource", "open_source"]

_BATCH_ROWS = 1 << 14
#: What the rows of one decoded batch may weigh at worst, and how much is copied from a URL at a time.
_BATCH_BUDGET = 64 << 20
_COPY_BYTES = 8 << 20


def open_source(options: SourceOptions) -> ParquetSource:
    """Open the source; ``text_field`` (dotted for nested ones) or ``record_fields`` say what it reads."""
    return ParquetSource(options)


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """Rows of one text column, or records; a slice is a run of row groups, a position is a row number."""

    options: SourceOptions

    def plan(self, path: str, *, slice_bytes: int) -> Sequence[Slice]:
        """Cut the file into runs of row groups of about ``slice_bytes`` compressed bytes.

        Raises:
            UsageError: there is no such column or it is no text.
            DamagedError: the file cannot be understood.
        """
        with _open(path) as file:
            parquet, row_groups = open_parquet(file, path)
            Table.find(parquet.schema_arrow, self.options, path=path)
            sizes = [group.nbytes for group in row_groups]
            file_bytes = file.seek(0, 2)
        slices: list[Slice] = []
        start = taken = done = 0
        for stop, size in enumerate(sizes, 1):
            taken += size
            if taken >= slice_bytes and stop < len(sizes):
                cut = file_bytes * (done + taken) // max(1, sum(sizes))
                slices.append(Slice(path, start, stop, slices[-1].byte_stop if slices else 0, cut))
                start, done, taken = stop, done + taken, 0
        begin = slices[-1].byte_stop if slices else 0
        return [*slices, Slice(path, start, len(sizes), begin, file_bytes)]

    def describe(self, path: str) -> str:
        """Say which column is read."""
        return describe_table(self.options)

    def read(self, part: Slice) -> Iterator[SourceBatch]:
        """Yield the rows of the slice's row groups; memory does not grow with their size.

        Raises:
            DamagedError: pages are malformed or larger than a document may be.
        """
        with ExitStack() as stack:
            file = stack.enter_context(_open(part.path))
            parquet, row_groups = open_parquet(file, part.path)
            table = Table.find(parquet.schema_arrow, self.options, path=part.path)
            if part.stop > len(row_groups):
                raise DamagedError(
                    f"{part.path} has fewer row groups than when it was planned; encode it again"
                )
            chunks = [_chunks(group, table) for group in row_groups[part.start : part.stop]]
            if is_url(part.path):
                file = stack.enter_context(_local_copy(file, list(chain(*chunks)), part.path))
                parquet = decoder(file, parquet.metadata)
            row = sum(group.rows for group in row_groups[: part.start])
            for index, places in zip(range(part.start, part.stop), chunks, strict=True):
                pages = [_checked_pages(file, chunk, self.options, part.path) for chunk in places]
                found = 0
                for batch in self._decode(parquet, index, pages, row_groups[index].rows, table):
                    yield from table.documents(batch, first_row=row + found)
                    found += len(batch)
                if found != row_groups[index].rows:
                    raise DamagedError(
                        f"{part.path} promises {row_groups[index].rows:,} rows in row group {index} and "
                        f"holds {found:,}; get the file again"
                    )
                row += found

    def _decode(
        self,
        parquet: pq.ParquetFile,
        group: int,
        pages: list[list[Page]],
        rows: int,
        table: Table,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the columns of one row group in pieces of about ``batch_bytes``."""
        average = max(1, sum(page.nbytes for chunk in pages for page in chunk) // max(1, rows))
        most = min(_BATCH_ROWS, max(1, self.options.batch_bytes // average))
        for chunk in pages:
            # Of a list, a row has several values: as many as its chunk has on average.
            values = sum(page.values for page in chunk if not page.is_dictionary) // max(1, rows)
            within = rows_within(chunk, _BATCH_BUDGET, most=most * max(1, values))
            most = max(1, min(most, within // max(1, values)))
        batches = parquet.iter_batches(
            batch_size=most, row_groups=[group], columns=_names(table), use_threads=False
        )
        while True:
            with parquet_errors(table.path):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


def _open(path: str) -> Any:
    """Open a file for pyarrow, which reads its own kind without holding up other threads."""
    if is_url(path):
        return open_input(path)
    with parquet_errors(path):
        return pa.OSFile(path)


def _names(table: Table) -> list[str]:
    """Return what pyarrow is asked for: the text itself, or whole columns."""
    return [".".join(table.steps)] if table.steps else list(table.columns)


def _chunks(group: RowGroup, table: Table) -> list[Chunk]:
    """Return where the data to read lies; of a column of lists or structs, that of every part of it."""
    found: list[Chunk] = []
    for name in _names(table):
        parts = [chunk for path, chunk in group.chunks.items() if path == name or path.startswith(f"{name}.")]
        if not parts:
            raise DamagedError(
                f"{table.path} has a row group without its column {name!r}; get the file again"
            )
        found += parts
    return found


def _checked_pages(file: BinaryIO, chunk: Chunk, options: SourceOptions, path: str) -> list[Page]:
    # A page holds at least one value, so it is larger than usual where a document is.
    limit = options.max_document_bytes + (8 << 20)
    pages = list(iter_pages(file, start=chunk.start, length=chunk.nbytes, path=path))
    if (largest := max((page.nbytes for page in pages), default=0)) > limit:
        raise DamagedError(
            f"{path} has a page of {largest:,} bytes, more than a document may have ({limit:,}); "
            "write the file with smaller pages, or raise --max-document-bytes"
        )
    return pages


def _local_copy(remote: BinaryIO, ranges: list[Chunk], path: str) -> BinaryIO:
    """Copy the given (start, bytes) of a remote file to the same places of a temporary one."""
    local = cast(BinaryIO, tempfile.TemporaryFile(prefix="tokpack-"))  # noqa: SIM115  # the caller's to close
    for start, length in ranges:
        remote.seek(start)
        local.seek(start)
        while length > 0:
            with storage_errors(path):
                data = remote.read(min(length, _COPY_BYTES))
            if not data:
                raise DamagedError(f"{path} ends within a row group; get the file again")
            local.write(data)
            length -= len(data)
    return local
