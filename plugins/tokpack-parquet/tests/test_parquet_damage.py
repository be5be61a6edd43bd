"""Thousands of small damages: each is a named error or goes unnoticed; none is a crash, none a hang."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokpack.batches import TokenBatch
from tokpack.dtypes import DTYPES
from tokpack.protocols import SourceOptions
from tokpack.testing.damage import survives
from tokpack_parquet.reader import ParquetReader
from tokpack_parquet.source import open_source
from tokpack_parquet.writer import ParquetWriter

U16 = DTYPES["uint16"]


def read_texts(path: Path, records: tuple[str, ...] = ()) -> None:
    source = open_source(SourceOptions(record_fields=records, on_error="skip"))
    for part in source.plan(str(path), slice_bytes=1000):
        for batch in source.read(part):
            assert len(list(batch.texts)) == len(batch.positions)


def tokens_of(writer_type: type[ParquetWriter], **options: str) -> bytes:
    batch = TokenBatch.from_documents([[1] * (index % 5) for index in range(50)])
    file = io.BytesIO()
    writer = writer_type(file, U16, (), options)
    writer.write(TokenBatch(batch.tokens.astype(np.uint16), batch.offsets))
    writer.close()
    return file.getvalue()


def read_tokens(path: Path) -> None:
    reader = ParquetReader(path, U16)
    assert len(reader.offsets) >= 1
    reader.read(0, len(reader))


TEXTS = pa.array([f"text number {index} " * (index % 7) for index in range(60)] + [None])
TABLE = pa.table({"text": TEXTS, "n": list(range(61))})
TALKS = pa.table(
    {
        "messages": [[{"role": "user", "content": "é" * size}] * (size % 4) for size in range(60)],
        "tools": [None, ["a tool"]] * 30,
    }
)
COUNTS = [pytest.param(200, id="some"), pytest.param(2_000, id="many", marks=pytest.mark.nightly)]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_damaged_texts(tmp_path: Path, compression: str, count: int) -> None:
    file = io.BytesIO()
    pq.write_table(TABLE, file, row_group_size=20, compression=compression)
    survives(file.getvalue(), read_texts, tmp_path / "a.parquet", seed=1, count=count)


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_records(tmp_path: Path, count: int) -> None:
    file = io.BytesIO()
    pq.write_table(TALKS, file, row_group_size=20)
    names = ("messages", "tools")
    survives(
        file.getvalue(), lambda path: read_texts(path, names), tmp_path / "a.parquet", seed=3, count=count
    )


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_tokens(tmp_path: Path, count: int) -> None:
    good = tokens_of(ParquetWriter, row_group_tokens="30")
    survives(good, read_tokens, tmp_path / "a.parquet", seed=2, count=count)
