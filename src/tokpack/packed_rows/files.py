"""Rows in files that anything opens: Parquet, Arrow IPC, or one ``.npy`` array per column.

A block is some rows of every column: arrays of shape (rows, seq_len) by name. Parquet and Arrow hold lists of
int32, which every reader knows; ``.npy`` the smallest dtype, since NumPy maps it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from tokpack.dataset.manifest import FileInfo
from tokpack.dataset.publish import HashingFile, publish
from tokpack.errors import DamagedError, UsageError

__all__ = ["FORMATS", "Block", "Layout", "RowFormat", "row_format"]

Block: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Layout:
    """What the files are to hold: ``rows`` rows of ``seq_len`` values in each column."""

    rows: int
    seq_len: int
    columns: Mapping[str, np.dtype[Any]]
    block_rows: int  # rows handled at a time; a row group or record batch
    shard_rows: int  # rows per Parquet or Arrow file


@dataclass(frozen=True, slots=True)
class RowFormat:
    """How rows become files: ``write`` gives the files in order, ``read`` the blocks that lie in them."""

    name: str
    write: Callable[[Path, Layout, Iterator[Block]], list[FileInfo]]
    read: Callable[[Path, Layout, list[FileInfo]], Iterator[Block]]
    narrow: bool  # whether columns keep their own dtype, instead of int32


def row_format(name: str) -> RowFormat:
    """Look up a format, checking that what it needs is installed. Raises UsageError."""
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r} for packed rows; choose one of: {', '.join(FORMATS)}")
    if name != "npy":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UsageError(
                f"--format {name} needs pyarrow: pip install pyarrow, or use --format npy"
            ) from None
    return FORMATS[name]


# one array per column


def _write_npy(folder: Path, layout: Layout, blocks: Iterator[Block]) -> list[FileInfo]:
    with ExitStack() as stack:
        files = {name: stack.enter_context(publish(folder / f"{name}.npy")) for name in layout.columns}
        for name, dtype in layout.columns.items():
            header = {
                "descr": npy_format.dtype_to_descr(dtype),
                "fortran_order": False,
                "shape": (layout.rows, layout.seq_len),
            }
            npy_format.write_array_header_1_0(files[name].as_binary(), header)
        for block in blocks:
            for name, dtype in layout.columns.items():
                files[name].write(np.ascontiguousarray(block[name], dtype).data)
    return [file.info(f"{name}.npy") for name, file in files.items()]


def _read_npy(folder: Path, layout: Layout, files: list[FileInfo]) -> Iterator[Block]:
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in layout.columns}
    for first in range(0, layout.rows, layout.block_rows):
        yield {name: array[first : first + layout.block_rows] for name, array in arrays.items()}


# tables of lists


def _write_parquet(folder: Path, layout: Layout, blocks: Iterator[Block]) -> list[FileInfo]:
    import pyarrow.parquet as parquet

    def open_writer(file: HashingFile, schema: Any) -> Any:
        return parquet.ParquetWriter(file, schema, compression="zstd")

    return _write_tables(folder, layout, blocks, "parquet", open_writer)


def _write_arrow(folder: Path, layout: Layout, blocks: Iterator[Block]) -> list[FileInfo]:
    from pyarrow import ipc

    return _write_tables(folder, layout, blocks, "arrow", ipc.new_file)


def _write_tables(
    folder: Path, layout: Layout, blocks: Iterator[Block], suffix: str, open_writer: Callable[..., Any]
) -> list[FileInfo]:
    import pyarrow as pa

    schema = pa.schema(
        [(name, pa.list_(pa.from_numpy_dtype(dtype))) for name, dtype in layout.columns.items()]
    )
    infos: list[FileInfo] = []
    for first in blocks:
        shard = chain([first], islice(blocks, layout.shard_rows // layout.block_rows - 1))
        name = f"rows-{len(infos):05d}.{suffix}"
        with publish(folder / name) as file, open_writer(file, schema) as writer:
            for block in shard:
                lists = [_lists(block[field.name].astype(layout.columns[field.name])) for field in schema]
                writer.write_batch(pa.record_batch(lists, schema=schema))
        infos.append(file.info(name))
    return infos


def _lists(values: NDArray[Any]) -> Any:
    import pyarrow as pa

    offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)))


def _read_parquet(folder: Path, layout: Layout, files: list[FileInfo]) -> Iterator[Block]:
    import pyarrow.parquet as parquet

    for info in files:
        with parquet.ParquetFile(folder / info.name) as file:
            yield from _blocks(layout, file.iter_batches(batch_size=layout.block_rows))


def _read_arrow(folder: Path, layout: Layout, files: list[FileInfo]) -> Iterator[Block]:
    import pyarrow as pa

    for info in files:
        with pa.memory_map(str(folder / info.name)) as source, pa.ipc.open_file(source) as file:
            yield from _blocks(layout, map(file.get_batch, range(file.num_record_batches)))


def _blocks(layout: Layout, batches: Iterable[Any]) -> Iterator[Block]:
    for batch in batches:
        columns = {name: batch.column(name) for name in layout.columns}
        for name, column in columns.items():
            if len(column.flatten()) != len(column) * layout.seq_len:
                raise DamagedError(f"column {name} was read back with rows of other lengths; pack again")
        yield {
            name: column.flatten().to_numpy().reshape(-1, layout.seq_len) for name, column in columns.items()
        }


FORMATS: Mapping[str, RowFormat] = MappingProxyType(
    {
        item.name: item
        for item in (
            RowFormat("parquet", _write_parquet, _read_parquet, narrow=False),
            RowFormat("arrow", _write_arrow, _read_arrow, narrow=False),
            RowFormat("npy", _write_npy, _read_npy, narrow=True),
        )
    }
)
