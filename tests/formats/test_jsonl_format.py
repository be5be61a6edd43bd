"""Token ids as JSON lines."""

from __future__ import annotations

import gzip
import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tokpack.batches import TextBatch, TokenBatch
from tokpack.dtypes import DTYPES
from tokpack.errors import DamagedError, DocumentError, StorageError, UsageError
from tokpack.formats import jsonl
from tokpack.formats.jsonl import GzipWriter, JsonlReader, JsonlWriter, ZstdWriter

U16, U32 = DTYPES["uint16"], DTYPES["uint32"]
DOCUMENTS = [[1, 2, 3, 50256], [], [4, 65535], [0], [], [7] * 5000]
KINDS = {".jsonl": JsonlWriter, ".jsonl.gz": GzipWriter, ".jsonl.zst": ZstdWriter}


def batch_of(documents: list[list[int]], dtype: np.dtype[Any], **more: Any) -> TokenBatch:
    batch = TokenBatch.from_documents(documents)
    return TokenBatch(batch.tokens.astype(dtype), batch.offsets, **more)


def write(path: Path, batches: list[TokenBatch], columns: tuple[str, ...] = (), **options: str) -> Path:
    with path.open("wb+") as file:
        writer = KINDS["".join(path.suffixes)](file, U16, columns, options)
        for batch in batches:
            writer.write(batch)
        writer.close()
        assert not file.closed
    return path


def documents_of(path: Path, dtype: np.dtype[Any] = U16) -> list[list[int]]:
    reader = JsonlReader(path, dtype)
    assert len(reader) == reader.offsets[-1]
    return [reader.read(int(a), int(b)).tolist() for a, b in itertools.pairwise(reader.offsets)]


def lines_of(path: Path) -> list[Any]:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if path.suffix == ".zst":
        content = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)).read()
    return [json.loads(line) for line in content.splitlines()]


@pytest.mark.parametrize("suffix", KINDS)
def test_round_trip_and_what_json_says(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", [batch_of(DOCUMENTS[:2], U16), batch_of(DOCUMENTS[2:], U16)])
    assert [line["input_ids"] for line in lines_of(path)] == DOCUMENTS
    assert documents_of(path) == DOCUMENTS
    again = write(tmp_path / f"b{suffix}", [batch_of(DOCUMENTS[:2], U16), batch_of(DOCUMENTS[2:], U16)])
    assert again.read_bytes() == path.read_bytes()


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=20), max_size=20), st.sampled_from(["", " "]))
def test_reads_what_json_writes(documents: list[list[int]], blank: str) -> None:
    lines = [
        json.dumps({"id": index, "input_ids": ids, "text": "[1,2] 3"}, separators=(f",{blank}", f":{blank}"))
        for index, ids in enumerate(documents)
    ]
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_text("\n".join(lines))
        assert documents_of(path, U32) == documents


def test_text_and_columns(tmp_path: Path) -> None:
    texts = TextBatch.from_texts(['say "hi"\n', ""])
    batch = batch_of([[5, 6], []], U16, columns={"loss_mask": np.array([0, 1], np.uint8)}, texts=texts)
    path = write(tmp_path / "a.jsonl", [batch], ("loss_mask",))
    assert lines_of(path) == [
        {"input_ids": [5, 6], "loss_mask": [0, 1], "text": 'say "hi"\n'},
        {"input_ids": [], "loss_mask": [], "text": ""},
    ]
    reader = JsonlReader(path, U16)
    assert reader.column("loss_mask", 0, 2).tolist() == [0, 1]
    assert reader.column("loss_mask", 1, 2).dtype == np.uint8
    with pytest.raises(DamagedError, match="segment_ids"):
        reader.column("segment_ids", 0, 1)


@pytest.mark.parametrize("suffix", KINDS)
def test_others_read_it(tmp_path: Path, suffix: str) -> None:
    import pandas as pd

    path = write(tmp_path / f"a{suffix}", [batch_of(DOCUMENTS, U16)])
    assert pd.read_json(path, lines=True)["input_ids"].tolist() == DOCUMENTS
    duckdb = pytest.importorskip("duckdb")
    assert [
        row[0] for row in duckdb.sql(f"select input_ids from read_json('{path}')").fetchall()
    ] == DOCUMENTS
    polars = pytest.importorskip("polars")
    assert polars.read_ndjson(path)["input_ids"].to_list() == DOCUMENTS


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "[1]",
        "{}",
        '{"ids": [1]}',
        '{"input_ids": 1}',
        '{"input_ids": "12"}',
        '{"input_ids": null}',
        '{"input_ids": [1, null]}',
        '{"input_ids": [-1]}',
        '{"input_ids": [1.5]}',
        '{"input_ids": [1e3]}',
        '{"input_ids": [[1]]}',
        '{"input_ids": [65536]}',
        '{"input_ids": [123456789012345678901234567890]}',
        '{"input_ids": ' + "[" * 100_000,
        '{"input_ids": [1,]}',
        '{"input_ids": [01]}',
        "\x00",
        '{"input_ids": [1]} {"input_ids": [2]}',
    ],
)
def test_lines_that_are_no_documents(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"input_ids": [1]}\n' + line + "\n")
    with pytest.raises(DamagedError):
        documents_of(path)


def test_truncated_and_missing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        JsonlReader(tmp_path / "none.jsonl", U16)
    for suffix in (".jsonl.gz", ".jsonl.zst"):
        path = write(tmp_path / f"a{suffix}", [batch_of(DOCUMENTS, U16)])
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(DamagedError, match="damaged or truncated"):
            documents_of(path)


def test_what_expands_too_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_TOKENS", 1000)
    with pytest.raises(DocumentError, match="at most 1,000 tokens"):
        write(tmp_path / "a.jsonl", [batch_of([[1] * 1001], U16)])
    path = tmp_path / "b.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"input_ids":[1,1,1,1,1]}\n' * 201))
    with pytest.raises(DamagedError, match="more than 1,000 tokens"):
        documents_of(path)


def test_wrong_options_are_named() -> None:
    with pytest.raises(UsageError, match="level is '99'; give a whole number from 1 to 9"):
        GzipWriter(io.BytesIO(), U16, (), {"level": "99"})


@pytest.mark.parametrize("parsed_bytes", [1, 2, 7, 19, 64])
def test_text_is_parsed_in_stretches(tmp_path: Path, parsed_bytes: int, monkeypatch) -> None:
    """Wherever a stretch ends, numbers stay whole, and one of too many digits is refused."""
    monkeypatch.setattr("tokpack.formats.jsonl._PARSED_BYTES", parsed_bytes)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"input_ids": document}) + "\n" for document in DOCUMENTS))
    assert JsonlReader(path, np.dtype("<u2")).read(0, 10**6).tolist() == list(itertools.chain(*DOCUMENTS))
    for digits in range(19, 60):
        path.write_text('{"input_ids": [1, 22, %s, 3]}\n' % ("9" * digits))
        with pytest.raises(DamagedError):
            len(JsonlReader(path, np.dtype("<u2")))
