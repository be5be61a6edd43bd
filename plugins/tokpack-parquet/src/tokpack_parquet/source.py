"""Text columns of Parquet files as documents."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tokpack.errors import DamagedError
from tokpack.protocols import Slice, SourceBatch, SourceOptions
from tokpack.sources.columnar import find_text_column, text_batches
from tokpack.urls import is_url, open_input, storage_errors
from tokpack_parquet.footer import chunk_range, open_parquet, parquet_errors
from tokpack_parquet.pages import Page, iter_pages, rows_within

__all__ = ["ParquetSource", "open_source"]

_BATCH_ROWS = 1 << 14
#: What the rows of one decoded batch may weigh at worst, and how much is copied from a URL at a time.
_BATCH_BUDGET = 64 << 20
_COPY_BYTES = 8 << 20


def open_source(options: SourceOptions) -> ParquetSource:
    """Open the source; which column is text stands in ``options.text_field``, dotted for nested ones."""
    return ParquetSource(options)


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """Rows of one text column; a slice is a run of row groups, a position is a row number."""

    options: SourceOptions

    def plan(self, path: str, *, slice_bytes: int) -> Sequence[Slice]:
        """Cut the file into runs of row groups of about ``slice_bytes`` compressed bytes.

        Raises:
            UsageError: there is no such column or it is no text.
            DamagedError: the file cannot be understood.
        """
        with _open(path) as file, open_parquet(file, path) as parquet:
            find_text_column(parquet.schema_arrow, self.options.text_field, path=path)
            groups = [parquet.metadata.row_group(index) for index in range(parquet.num_row_groups)]
            sizes = [max(0, sum(_sizes(group))) for group in groups]
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
        return f"one document per row of column {self.options.text_field!r}"

    def read(self, part: Slice) -> Iterator[SourceBatch]:
        """Yield the rows of the slice's row groups; memory does not grow with their size.

        Raises:
            DamagedError: pages are malformed or larger than a document may be.
        """
        with ExitStack() as stack:
            file = stack.enter_context(_open(part.path))
            parquet = stack.enter_context(open_parquet(file, part.path))
            steps = find_text_column(parquet.schema_arrow, self.options.text_field, path=part.path)
            metadata = parquet.metadata
            if part.stop > parquet.num_row_groups:
                raise DamagedError(
                    f"{part.path} has fewer row groups than when it was planned; encode it again"
                )
            chunks = [
                _chunk(metadata.row_group(index), steps, part.path) for index in range(part.start, part.stop)
            ]
            if is_url(part.path):
                file = stack.enter_context(
                    _local_copy(file, [chunk_range(chunk) for chunk in chunks], part.path)
                )
                parquet = stack.enter_context(
                    pq.ParquetFile(file, metadata=metadata, pre_buffer=False, buffer_size=1 << 20)
                )
            row = sum(metadata.row_group(index).num_rows for index in range(part.start))
            for index, chunk in zip(range(part.start, part.stop), chunks, strict=True):
                for column in self._decode(file, parquet, index, chunk, steps, part.path):
                    yield from text_batches(column, path=part.path, first_row=row, options=self.options)
                    row += len(column)

    def _decode(
        self,
        file: BinaryIO,
        parquet: pq.ParquetFile,
        group: int,
        chunk: pq.ColumnChunkMetaData,
        steps: tuple[str, ...],
        path: str,
    ) -> Iterator[pa.Array]:
        """Yield the column of one row group in pieces of about ``batch_bytes``."""
        start, length = chunk_range(chunk)
        pages = [
            _checked(page, self.options, path)
            for page in iter_pages(file, start=start, length=length, path=path)
        ]
        rows = parquet.metadata.row_group(group).num_rows
        average = max(1, sum(page.nbytes for page in pages) // max(1, rows))
        most = min(_BATCH_ROWS, max(1, self.options.batch_bytes // average))
        batches = parquet.iter_batches(
            batch_size=rows_within(pages, _BATCH_BUDGET, most=most),
            row_groups=[group],
            columns=[".".join(steps)],
            use_threads=False,
        )
        found = 0
        while True:
            with parquet_errors(path):
                batch = next(batches, None)
            if batch is None:
                break
            found += len(batch)
            column = batch.column(steps[0])
            yield pc.struct_field(column, list(steps[1:])) if len(steps) > 1 else column
        if found != rows:
            raise DamagedError(
                f"{path} promises {rows:,} rows in row group {group} and holds {found:,}; get it again"
            )


def _open(path: str) -> Any:
    """Open a file for pyarrow, which reads its own kind without holding up other threads."""
    if is_url(path):
        return open_input(path)
    with parquet_errors(path):
        return pa.OSFile(path)


def _sizes(group: pq.RowGroupMetaData) -> Iterator[int]:
    return (group.column(index).total_compressed_size for index in range(group.num_columns))


def _chunk(group: pq.RowGroupMetaData, steps: tuple[str, ...], path: str) -> pq.ColumnChunkMetaData:
    name = ".".join(steps)
    for index in range(group.num_columns):
        if group.column(index).path_in_schema == name:
            return group.column(index)
    raise DamagedError(f"{path} has a row group without its column {name!r}; get the file again")


def _checked(page: Page, options: SourceOptions, path: str) -> Page:
    # A page holds at least one value, so it is larger than usual where a document is.
    limit = options.max_document_bytes + (8 << 20)
    if page.nbytes > limit:
        raise DamagedError(
            f"{path} has a page of {page.nbytes:,} bytes, more than a document may have ({limit:,}); "
            "write the file with smaller pages, or raise --max-document-bytes"
        )
    return page


def _local_copy(remote: BinaryIO, ranges: list[tuple[int, int]], path: str) -> BinaryIO:
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
