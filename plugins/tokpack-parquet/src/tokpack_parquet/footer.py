"""Opening Parquet files that nobody vouches for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tokpack.errors import DamagedError, StorageError

__all__ = ["chunk_range", "open_parquet", "parquet_errors"]

_MAX_FOOTER = 64 << 20


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


def open_parquet(file: BinaryIO, path: str, **reading: Any) -> pq.ParquetFile:
    """Open a file without reading its data, refusing a footer that would not fit in memory.

    Raises:
        DamagedError: truncated, encrypted, or not Parquet.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    if size < 12 or tail[4:] != b"PAR1":
        raise DamagedError(f"{path} does not end as a Parquet file does; it is truncated or something else")
    footer = int.from_bytes(tail[:4], "little")
    if footer > min(size - 12, _MAX_FOOTER):
        raise DamagedError(
            f"{path} claims {footer:,} bytes of metadata in {size:,} bytes; get the file again"
        )
    file.seek(0)
    with parquet_errors(path):
        opened = pq.ParquetFile(
            file,
            pre_buffer=False,  # or a whole row group is in memory before its first row
            buffer_size=1 << 20,
            thrift_string_size_limit=_MAX_FOOTER,
            thrift_container_size_limit=1_000_000,
            arrow_extensions_enabled=False,
            **reading,
        )
        _ = opened.schema_arrow  # here, so that what is wrong with it is told like the rest
        return opened


def chunk_range(column: pq.ColumnChunkMetaData) -> tuple[int, int]:
    """Return (first byte, bytes) of a column chunk."""
    start = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < start:
        start = column.dictionary_page_offset
    return start, column.total_compressed_size
