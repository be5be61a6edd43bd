"""Opening Parquet files that nobody vouches for, and finding the places of their column chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tokpack.errors import DamagedError, StorageError
from tokpack_parquet.thrift import BINARY, I64, LIST, STRUCT, Compact

__all__ = ["Chunk", "RowGroup", "decoder", "open_parquet", "parquet_errors"]

_MAX_FOOTER = 64 << 20


class Chunk(NamedTuple):
    """Where the pages of one column lie within one row group."""

    start: int
    nbytes: int


class RowGroup(NamedTuple):
    """Rows, and the chunk of each column by its dotted path."""

    rows: int
    chunks: Mapping[str, Chunk]

    @property
    def nbytes(self) -> int:
        """Compressed bytes of all columns."""
        return sum(chunk.nbytes for chunk in self.chunks.values())


@contextmanager
def parquet_errors(path: str) -> Iterator[None]:
    """Turn what pyarrow raises on a broken file into a DamagedError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist; check the spelling") from error
    except (pa.ArrowException, OSError, OverflowError, ValueError, MemoryError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        if isinstance(error, OSError) and error.errno is not None:
            raise StorageError(f"cannot read {path}: {reason}") from error
        raise DamagedError(f"{path} is not a Parquet file that can be read: {reason}") from error


def open_parquet(file: BinaryIO, path: str) -> tuple[pq.ParquetFile, list[RowGroup]]:
    """Open a file without reading its data, refusing a footer that would not fit in memory.

    Raises:
        DamagedError: truncated, encrypted, or not Parquet.
    """
    row_groups = _read_footer(file, path)
    file.seek(0)
    with parquet_errors(path):
        opened = decoder(file)
        _ = opened.schema_arrow.names  # here, so that what is wrong with the schema is told like the rest
        if opened.num_row_groups != len(row_groups):
            raise ValueError("its row groups cannot be counted")
    return opened, row_groups


def decoder(file: BinaryIO, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """Return pyarrow's reader, set up so that memory stays small and nothing is made of extension types."""
    return pq.ParquetFile(
        file,
        metadata=metadata,
        pre_buffer=False,  # or a whole row group is in memory before its first row
        buffer_size=1 << 20,
        thrift_string_size_limit=_MAX_FOOTER,
        thrift_container_size_limit=1_000_000,
        arrow_extensions_enabled=False,
    )


def _read_footer(file: BinaryIO, path: str) -> list[RowGroup]:
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    if size < 12 or tail[4:] != b"PAR1":
        raise DamagedError(f"{path} does not end as a Parquet file does; it is truncated or something else")
    length = int.from_bytes(tail[:4], "little")
    if length > min(size - 12, _MAX_FOOTER):
        raise DamagedError(
            f"{path} claims {length:,} bytes of metadata in {size:,} bytes; get the file again"
        )
    file.seek(size - 8 - length)
    try:
        row_groups = _file_metadata(Compact(file.read(length)))
        for group in row_groups:
            for start, nbytes in group.chunks.values():
                if start < 0 or nbytes < 0 or start + nbytes > size:
                    raise ValueError("a column chunk that lies outside of the file")
    except (ValueError, IndexError) as error:
        raise DamagedError(
            f"{path} has metadata that cannot be followed: {error}; get the file again"
        ) from error
    return row_groups


def _file_metadata(reader: Compact) -> list[RowGroup]:
    groups: list[RowGroup] = []
    for field, wire in reader.fields():
        if field == 4 and wire == LIST:
            groups += [_row_group(reader) for element in reader.elements() if _is_struct(element)]
        else:
            reader.skip(wire)
    return groups


def _row_group(reader: Compact) -> RowGroup:
    rows, chunks = 0, {}
    for field, wire in reader.fields():
        if field == 1 and wire == LIST:
            chunks = dict(_column_chunk(reader) for element in reader.elements() if _is_struct(element))
        elif field == 3 and wire == I64:
            rows = reader.integer()
        else:
            reader.skip(wire)
    if rows < 0:
        raise ValueError(f"a row group of {rows} rows")
    return RowGroup(rows, chunks)


def _column_chunk(reader: Compact) -> tuple[str, Chunk]:
    path, numbers = "", {}
    for field, wire in reader.fields():
        if field != 3 or wire != STRUCT:
            reader.skip(wire)
            continue
        for inner, inner_wire in reader.fields():
            if inner == 3 and inner_wire == LIST:
                parts = [reader.binary() for element in reader.elements() if _is_binary(element)]
                path = b".".join(parts).decode()
            elif inner_wire == I64:
                numbers[inner] = reader.integer()
            else:
                reader.skip(inner_wire)
    nbytes, data, dictionary = (numbers.get(inner, 0) for inner in (7, 9, 11))
    return path, Chunk(dictionary if 0 < dictionary < data else data, nbytes)


def _is_struct(element: int) -> bool:
    if element != STRUCT:
        raise ValueError("a list of something else than structs")
    return True


def _is_binary(element: int) -> bool:
    if element != BINARY:
        raise ValueError("a column without a name")
    return True
