"""Thousands of small damages: each is a named error or goes unnoticed; none is a crash, none a hang."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokpack.batches import TokenBatch
from tokpack.dtypes import DTYPES
from tokpack.errors import TokpackError
from tokpack.protocols import SourceOptions
from tokpack_parquet.reader import ParquetReader
from tokpack_parquet.source import open_source
from tokpack_parquet.writer import ParquetWriter

U16 = DTYPES["uint16"]
LIES = (0, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def damaged(good: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Yield ``count`` variants: flipped bits, lying numbers, missing and added bytes, mostly near the end."""
    rng = random.Random(seed)
    for _ in range(count):
        data = bytearray(good)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at = rng.randrange(len(data))
            if rng.random() < 0.6:  # where the metadata lies
                at = len(data) - 1 - rng.randrange(min(len(data), 1500))
            kind = rng.randrange(5)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 2:
                lie, width = rng.choice(LIES), rng.choice((4, 8))
                data[at : at + width] = (lie % 256**width).to_bytes(width, "little")
            elif kind == 3:
                del data[at : at + rng.randrange(1, 40)]
            else:
                data[at:at] = rng.randbytes(rng.randrange(1, 12))
        yield bytes(data)


def survives(good: bytes, read: Callable[[Path], None], path: Path, *, seed: int, count: int) -> None:
    refused = 0
    for data in damaged(good, seed, count):
        path.write_bytes(data)
        try:
            read(path)
        except TokpackError:
            refused += 1
    assert refused > count // 5


def read_texts(path: Path) -> None:
    source = open_source(SourceOptions(on_error="skip"))
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
COUNTS = [pytest.param(200, id="some"), pytest.param(2_000, id="many", marks=pytest.mark.nightly)]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_damaged_texts(tmp_path: Path, compression: str, count: int) -> None:
    file = io.BytesIO()
    pq.write_table(TABLE, file, row_group_size=20, compression=compression)
    survives(file.getvalue(), read_texts, tmp_path / "a.parquet", seed=1, count=count)


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_tokens(tmp_path: Path, count: int) -> None:
    good = tokens_of(ParquetWriter, row_group_tokens="30")
    survives(good, read_tokens, tmp_path / "a.parquet", seed=2, count=count)
