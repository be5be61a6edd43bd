"""The Parquet format against the readers that users have."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokpack.batches import TokenBatch
from tokpack.dtypes import DTYPES
from tokpack.errors import DamagedError, DocumentError, UsageError
from tokpack_parquet import writer as writing
from tokpack_parquet.reader import ParquetReader
from tokpack_parquet.writer import ParquetWriter

U16, U32 = DTYPES["uint16"], DTYPES["uint32"]
DOCUMENTS = [[1, 2, 3, 50256], [], [4, 65535], [0], [], [7] * 5000]


def batch_of(
    documents: list[list[int]], dtype: np.dtype[Any], columns: dict[str, Any] | None = None
) -> TokenBatch:
    batch = TokenBatch.from_documents(documents)
    return TokenBatch(batch.tokens.astype(dtype), batch.offsets, columns or {})


def write(
    path: Path, batches: list[TokenBatch], dtype: np.dtype[Any], columns: tuple[str, ...] = (), **options: str
) -> Path:
    with path.open("wb+") as file:
        writer = ParquetWriter(file, dtype, columns, options)
        for batch in batches:
            writer.write(batch)
        writer.close()
        assert not file.closed
    return path


def documents_of(reader: ParquetReader) -> list[list[int]]:
    edges = reader.offsets
    return [reader.read(int(a), int(b)).tolist() for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("dtype", [U16, U32])
@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "lz4", "none"])
@pytest.mark.parametrize("encoding", ["split", "plain", "dictionary"])
def test_round_trip(tmp_path: Path, dtype: np.dtype[Any], compression: str, encoding: str) -> None:
    path = write(
        tmp_path / "a.parquet",
        [batch_of(DOCUMENTS, dtype)],
        dtype,
        compression=compression,
        encoding=encoding,
    )
    reader = ParquetReader(path, dtype)
    assert reader.dtype == dtype
    assert len(reader) == sum(map(len, DOCUMENTS))
    assert documents_of(reader) == DOCUMENTS
    reader.close()


@given(
    st.lists(st.lists(st.integers(0, 65535), max_size=9), max_size=12),
    st.lists(st.integers(0, 12), max_size=3),
    st.integers(1, 20),
)
def test_bytes_do_not_depend_on_batches(documents: list[list[int]], cuts: list[int], group: int) -> None:
    def content(parts: list[list[list[int]]]) -> bytes:
        file = io.BytesIO()
        writer = ParquetWriter(file, U16, (), {"row_group_tokens": str(group)})
        for part in parts:
            writer.write(batch_of(part, U16))
        writer.close()
        return file.getvalue()

    edges = sorted({0, len(documents), *(min(cut, len(documents)) for cut in cuts)})
    parts = [documents[a:b] for a, b in itertools.pairwise(edges)]
    whole = content([documents])
    assert content(parts) == whole
    table = pq.read_table(io.BytesIO(whole))
    assert table["input_ids"].to_pylist() == documents
    metadata = pq.read_metadata(io.BytesIO(whole))
    groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    sizes = np.array([len(document) for document in documents], dtype=np.int64)
    for rows, stop in zip(groups[:-1], np.cumsum(groups)[:-1], strict=True):
        assert sizes[stop - rows : stop].sum() >= group > sizes[stop - rows : stop - 1].sum()


def test_others_read_it(tmp_path: Path) -> None:
    path = write(tmp_path / "train.parquet", [batch_of(DOCUMENTS, U16)], U16, row_group_tokens="3")
    assert [list(row) for row in pd.read_parquet(path)["input_ids"]] == DOCUMENTS
    assert pl.read_parquet(path)["input_ids"].to_list() == DOCUMENTS
    assert [row[0] for row in duckdb.sql(f"select input_ids from '{path}'").fetchall()] == DOCUMENTS
    assert pads.dataset(path).to_table()["input_ids"].to_pylist() == DOCUMENTS
    assert pads.dataset(path).schema.field("input_ids").type == pa.list_(pa.uint16())


def test_datasets_reads_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    path = write(tmp_path / "train.parquet", [batch_of(DOCUMENTS, U16)], U16)
    loaded = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert loaded["input_ids"][:] == DOCUMENTS


def test_signed_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [batch_of(DOCUMENTS, U32)], U32, ids_type="int32")
    assert pq.read_schema(path).field("input_ids").type == pa.list_(pa.int32())
    assert documents_of(ParquetReader(path, U32)) == DOCUMENTS
    assert (
        documents_of(
            ParquetReader(
                write(tmp_path / "b.parquet", [batch_of(DOCUMENTS, U16)], U16, ids_type="int32"), U16
            )
        )
        == DOCUMENTS
    )
    with pytest.raises(DocumentError, match="int32"):
        write(tmp_path / "c.parquet", [batch_of([[2**31]], U32)], U32, ids_type="int32")


def test_columns(tmp_path: Path) -> None:
    masks = {"loss_mask": np.array([1, 0, 1], np.uint8), "segment_ids": np.array([1, 1, 2], np.int32)}
    path = write(
        tmp_path / "a.parquet", [batch_of([[5, 6], [7]], U16, masks)], U16, ("loss_mask", "segment_ids")
    )
    reader = ParquetReader(path, U16)
    assert reader.column("loss_mask", 1, 3).tolist() == [0, 1]
    assert reader.column("segment_ids", 0, 3).dtype == np.int32
    assert pl.read_parquet(path)["segment_ids"].to_list() == [[1, 1], [2]]
    with pytest.raises(DamagedError, match="attention_mask"):
        reader.column("attention_mask", 0, 1)


def test_reads_across_row_groups(tmp_path: Path) -> None:
    documents = [list(range(index, index + 7)) for index in range(100)]
    path = write(tmp_path / "a.parquet", [batch_of(documents, U16)], U16, row_group_tokens="20")
    reader = ParquetReader(path, U16)
    flat = np.concatenate([np.array(document) for document in documents])
    rng = np.random.default_rng(0)
    for start, stop in np.sort(rng.integers(0, len(flat) + 1, (200, 2)), axis=1).tolist():
        assert reader.read(start, stop).tolist() == flat[start:stop].tolist()


def test_a_file_of_others(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    table = pa.table(
        {"input_ids": pa.array(DOCUMENTS, pa.large_list(pa.int64())), "text": ["x"] * len(DOCUMENTS)}
    )
    pq.write_table(table, path, row_group_size=2)
    reader = ParquetReader(path, U16)
    assert len(reader) == sum(map(len, DOCUMENTS))
    assert documents_of(reader) == DOCUMENTS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": "lzma"}, "zstd, snappy"),
        ({"encoding": "rle"}, "split, plain"),
        ({"ids_type": "uint8"}, "int32"),
        ({"row_group_tokens": "0"}, "row_group_tokens is '0'"),
        ({"compression_level": "high"}, "compression_level is 'high'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ParquetWriter(io.BytesIO(), U16, (), options)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"text": ["a"]}), "only: text"),
        (pa.table({"input_ids": ["a"]}), "not lists of integers"),
        (pa.table({"input_ids": pa.array([[[1]]])}), "not lists of integers"),
        (pa.table({"input_ids": pa.array([[1], None])}), "nulls"),
        (pa.table({"input_ids": pa.array([[1, None]])}), "nulls"),
        (pa.table({"input_ids": pa.array([[70000]])}), "does not fit"),
        (pa.table({"input_ids": pa.array([[-1]])}), "does not fit"),
    ],
)
def test_files_that_hold_no_tokens(tmp_path: Path, table: pa.Table, message: str) -> None:
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DamagedError, match=message):
        documents_of(ParquetReader(tmp_path / "a.parquet", U16))


@pytest.mark.parametrize("counts", ["[1]", "[-1]", "[1,2]", '"x"', "[1e9]", "[99999999999]", "[" * 3000, "{"])
def test_a_footer_that_lies_about_tokens(tmp_path: Path, counts: str) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"input_ids": pa.array([[1, 2]], pa.list_(pa.uint16()))})
    pq.write_table(table.replace_schema_metadata({writing.TOKENS_KEY: counts}), path)
    reader = ParquetReader(path, U16)
    with pytest.raises(DamagedError, match=r"impossible token counts|footer promises|counts the tokens"):
        reader.read(0, 9)


def test_a_row_group_too_large_to_seek_in(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    zeros = pa.array(np.zeros(40_000_000, np.uint16))
    rows = pa.ListArray.from_arrays(pa.array([0, len(zeros)], pa.int32()), zeros)
    pq.write_table(pa.table({"input_ids": rows}), path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 200_000
    with pytest.raises(DamagedError, match="smaller row groups"):
        ParquetReader(path, U16).read(0, 10)
