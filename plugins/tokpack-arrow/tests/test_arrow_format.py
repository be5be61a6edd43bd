"""The Arrow format: golden by other readers, and views that read nothing at open."""

from __future__ import annotations

import io
import itertools
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokpack.batches import TokenBatch
from tokpack.dtypes import DTYPES
from tokpack.errors import DamagedError, UsageError
from tokpack_arrow.reader import ArrowReader
from tokpack_arrow.writer import STARTS_KEY, ArrowWriter

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
        writer = ArrowWriter(file, dtype, columns, options)
        for batch in batches:
            writer.write(batch)
        writer.close()
        assert not file.closed
    return path


def documents_of(reader: ArrowReader) -> list[list[int]]:
    return [reader.read(int(a), int(b)).tolist() for a, b in itertools.pairwise(reader.offsets)]


@pytest.mark.parametrize("dtype", [U16, U32])
@pytest.mark.parametrize("batch_tokens", ["1", "4", "4194304"])
def test_round_trip(tmp_path: Path, dtype: np.dtype[Any], batch_tokens: str) -> None:
    path = write(tmp_path / "a.arrow", [batch_of(DOCUMENTS, dtype)], dtype, batch_tokens=batch_tokens)
    reader = ArrowReader(path, dtype)
    assert reader.dtype == dtype
    assert len(reader) == sum(map(len, DOCUMENTS))
    assert documents_of(reader) == DOCUMENTS


@given(
    st.lists(st.lists(st.lists(st.integers(0, 65535), max_size=9), max_size=5), max_size=5),
    st.integers(1, 20),
)
def test_bytes_do_not_depend_on_batches(batches: list[list[list[int]]], batch_tokens: int) -> None:
    def content(parts: list[list[list[int]]]) -> bytes:
        file = io.BytesIO()
        writer = ArrowWriter(file, U16, (), {"batch_tokens": str(batch_tokens)})
        for part in parts:
            writer.write(batch_of(part, U16))
        writer.close()
        return file.getvalue()

    documents = [document for batch in batches for document in batch]
    whole = content([documents])
    assert content(batches) == whole
    assert pa.ipc.open_file(whole).read_all()["input_ids"].to_pylist() == documents


def test_others_read_it(tmp_path: Path) -> None:
    path = write(tmp_path / "train.arrow", [batch_of(DOCUMENTS, U16)], U16, batch_tokens="3")
    table = pa.ipc.open_file(path).read_all()
    assert table.schema.field("input_ids").type == pa.list_(pa.uint16())
    assert pads.dataset(path, format="ipc").to_table()["input_ids"].to_pylist() == DOCUMENTS
    assert pl.read_ipc(path)["input_ids"].to_list() == DOCUMENTS
    assert [list(row) for row in pd.read_feather(path)["input_ids"]] == DOCUMENTS
    assert [row[0] for row in duckdb.sql("select input_ids from 'table'").fetchall()] == DOCUMENTS
    first = table["input_ids"].chunk(0).values.to_numpy()
    assert first.dtype == np.uint16


def test_datasets_reads_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    path = write(tmp_path / "train.arrow", [batch_of(DOCUMENTS, U16)], U16)
    loaded = datasets.load_dataset(
        "arrow", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded["input_ids"][:] == DOCUMENTS


def test_columns(tmp_path: Path) -> None:
    masks = {"loss_mask": np.array([1, 0, 1], np.uint8), "segment_ids": np.array([1, 1, 2], np.int32)}
    path = write(
        tmp_path / "a.arrow", [batch_of([[5, 6], [7]], U16, masks)], U16, ("loss_mask", "segment_ids")
    )
    reader = ArrowReader(path, U16)
    assert reader.column("loss_mask", 1, 3).tolist() == [0, 1]
    assert reader.column("segment_ids", 0, 3).dtype == np.int32
    with pytest.raises(DamagedError, match="attention_mask"):
        reader.column("attention_mask", 0, 1)


def test_reads_across_record_batches_and_views_within(tmp_path: Path) -> None:
    documents = [list(range(index, index + 7)) for index in range(100)]
    reader = ArrowReader(write(tmp_path / "a.arrow", [batch_of(documents, U16)], U16, batch_tokens="20"), U16)
    flat = np.concatenate([np.array(document) for document in documents])
    rng = np.random.default_rng(0)
    for start, stop in np.sort(rng.integers(0, len(flat) + 1, (200, 2)), axis=1).tolist():
        assert reader.read(start, stop).tolist() == flat[start:stop].tolist()
    view = reader.read(3, 9)
    assert view.base is not None
    assert not view.flags.writeable
    assert np.shares_memory(view, reader.read(0, 21))
    reader.close()
    assert view.tolist() == flat[3:9].tolist()


# A fresh process: memory that this one has freed would hide what is read.
MEASURE = """
import resource, sys
from pathlib import Path
from tokpack.dtypes import DTYPES
from tokpack_arrow.reader import ArrowReader
ArrowReader(Path(sys.argv[1]), DTYPES["uint16"]).read(0, 10)
before = int(open("/proc/self/statm").read().split()[1])
reader = ArrowReader(Path(sys.argv[2]), DTYPES["uint16"])
tail = reader.read(len(reader) - 10, len(reader)).tolist()
after = int(open("/proc/self/statm").read().split()[1])
print(len(reader), tail[-1], (after - before) * resource.getpagesize())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_opening_reads_no_tokens(tmp_path: Path) -> None:
    small = write(tmp_path / "small.arrow", [batch_of([[1] * 20], U16)], U16)
    tokens = np.arange(20_000_000, dtype=np.uint16)
    offsets = np.arange(0, len(tokens) + 1, 1000, dtype=np.int64)
    large = write(tmp_path / "large.arrow", [TokenBatch(tokens, offsets)], U16)
    command = [sys.executable, "-c", MEASURE, str(small), str(large)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    length, last, grown = map(int, done.stdout.split())
    assert (length, last) == (20_000_000, int(tokens[-1]))
    assert grown < 4_000_000 < tokens.nbytes


def test_a_file_of_others(tmp_path: Path) -> None:
    table = pa.table(
        {"text": ["x"] * len(DOCUMENTS), "input_ids": pa.array(DOCUMENTS, pa.large_list(pa.uint32()))}
    )
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as file:
        file.write_table(table.slice(1), max_chunksize=2)
    assert documents_of(ArrowReader(tmp_path / "a.arrow", U32)) == DOCUMENTS[1:]


def save(path: Path, table: pa.Table, metadata: dict[bytes, bytes] | None = None, **options: Any) -> Path:
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as file:
        for batch in table.to_batches():
            file.write_batch(batch, metadata)
    return path


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"text": ["a"]}), "only: text"),
        (pa.table({"input_ids": ["a"]}), "not lists of uint16"),
        (pa.table({"input_ids": pa.array([[1]], pa.list_(pa.int16()))}), "not lists of uint16"),
        (pa.table({"input_ids": pa.array([[1], None], pa.list_(pa.uint16()))}), "nulls"),
        (pa.table({"input_ids": pa.array([[1, None]], pa.list_(pa.uint16()))}), "nulls"),
    ],
)
def test_files_that_hold_no_tokens(tmp_path: Path, table: pa.Table, message: str) -> None:
    path = save(tmp_path / "a.arrow", table)
    with pytest.raises(DamagedError, match=message):
        documents_of(ArrowReader(path, U16))


@pytest.mark.parametrize("starts", [[0, 3], [1, 2], [0, -1], [0, 2**62], [0], [0, 1, 2], []])
def test_starts_that_lie(tmp_path: Path, starts: list[int]) -> None:
    table = pa.table({"input_ids": pa.array([[1, 2]], pa.list_(pa.uint16()))})
    path = save(tmp_path / "a.arrow", table, {STARTS_KEY: np.array(starts, "<i8").tobytes()})
    with pytest.raises(DamagedError, match=r"impossible places|contradicts itself"):
        ArrowReader(path, U16).read(0, 5)


@pytest.mark.parametrize("edges", [[0, 2, 1, 3], [0, 1, 2, 9], [-1, 0, 0, 3], [2, 1, 0, 3]])
def test_boundaries_that_lie(tmp_path: Path, edges: list[int]) -> None:
    path = save(
        tmp_path / "a.arrow", pa.table({"input_ids": pa.array([[1], [2], [3]], pa.list_(pa.uint16()))})
    )
    data = path.read_bytes()
    assert data.count(struct.pack("<4i", 0, 1, 2, 3)) == 1
    path.write_bytes(data.replace(struct.pack("<4i", 0, 1, 2, 3), struct.pack("<4i", *edges)))
    with pytest.raises(DamagedError):
        documents_of(ArrowReader(path, U16))


def test_wrong_options_are_named() -> None:
    with pytest.raises(UsageError, match="batch_tokens is 'many'"):
        ArrowWriter(io.BytesIO(), U16, (), {"batch_tokens": "many"})
    with pytest.raises(UsageError, match="not weights"):
        ArrowWriter(io.BytesIO(), U16, ("weights",), {})
