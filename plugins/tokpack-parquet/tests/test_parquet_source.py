"""Text columns of Parquet files."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokpack.errors import DamagedError, DocumentError, StorageError, UsageError
from tokpack.protocols import Problem, SourceBatch, SourceOptions
from tokpack.testing import shared_data
from tokpack_parquet.source import open_source


def read(path: Path | str, *, slice_bytes: int = 1, **options: Any) -> list[SourceBatch]:
    source = pickle.loads(pickle.dumps(open_source(SourceOptions(**options))))
    return [batch for part in source.plan(str(path), slice_bytes=slice_bytes) for batch in source.read(part)]


def texts(batches: list[SourceBatch]) -> list[str]:
    return [text for batch in batches for text in batch.texts]


def save(path: Path, column: Any, kind: pa.DataType | None = None, **options: Any) -> Path:
    pq.write_table(pa.table({"text": pa.array(column, kind)}), path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("tinystories_400_parquet", "text/formats/tinystories_400.parquet"),
        ("c4_validation_parquet", "text/c4_validation.parquet"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"batch_bytes": 3000}])
def test_documents_of_real_files(name: str, file: str, options: dict[str, int]) -> None:
    data = shared_data()
    expected = json.loads((data / "expected.json").read_text())["texts"][name]
    total = hashlib.sha256()
    batches = read(data / file, **options)
    for text in texts(batches):
        total.update(len(text.encode()).to_bytes(4, "little") + text.encode())
    assert total.hexdigest() == expected["docs_sha256"]
    positions = [position for batch in batches for position in batch.positions.tolist()]
    assert positions == list(range(expected["docs"]))


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
)
def test_every_kind_of_text_column(tmp_path: Path, kind: pa.DataType) -> None:
    rows = ["one", None, "", "drei ✓", "one", None, "x" * 5000]
    values = [row if row is None or not pa.types.is_binary(kind) else row.encode() for row in rows]
    path = save(tmp_path / "a.parquet", pa.array(values, pa.string()).cast(kind), row_group_size=3)
    batches = read(path)
    assert texts(batches) == [row for row in rows if row is not None]
    assert [position for batch in batches for position in batch.positions.tolist()] == [0, 2, 3, 4, 6]
    nulls = [Problem("null", str(path), row, "the row holds no value", "skipped") for row in (1, 5)]
    assert [problem for batch in batches for problem in batch.problems] == nulls


def test_slices_share_out_all_bytes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.parquet", [str(number) * 50 for number in range(1000)], row_group_size=10)
    for slice_bytes in (1, 500, 10_000, 1 << 40):
        parts = open_source(SourceOptions()).plan(str(path), slice_bytes=slice_bytes)
        assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
        assert [part.byte_start for part in parts[1:]] == [part.byte_stop for part in parts[:-1]]
        assert (parts[0].start, parts[-1].stop) == (0, 100)
        assert (parts[0].byte_start, parts[-1].byte_stop) == (0, path.stat().st_size)


def test_an_empty_file_has_one_empty_slice(tmp_path: Path) -> None:
    path = save(tmp_path / "a.parquet", [], pa.string())
    assert len(open_source(SourceOptions()).plan(str(path), slice_bytes=1)) == 1
    assert texts(read(path)) == []


def test_nested_and_dotted_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table(
        {
            "meta": pa.array([{"body": "a", "n": 1}, None, {"body": None, "n": 2}, {"body": "b", "n": 3}]),
            "plain.name": ["w", "x", "y", "z"],
        }
    )
    pq.write_table(table, path)
    assert texts(read(path, text_field="meta.body")) == ["a", "b"]
    assert texts(read(path, text_field="plain.name")) == ["w", "x", "y", "z"]


@pytest.mark.parametrize("field", ["body", "number", "meta", "list", "meta.none", ""])
def test_a_wrong_column_names_what_exists(tmp_path: Path, field: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"], "number": [1], "meta": [{"n": 1}], "list": [["a"]]}), path)
    with pytest.raises(UsageError, match=r"text \(string\), number \(int64\).*--text-field, such as 'text'"):
        read(path, text_field=field)


def test_what_is_not_utf8(tmp_path: Path) -> None:
    path = save(tmp_path / "a.parquet", [b"fine", b"\xff\xfe", b"\xc3", b"\xa9 end"], pa.binary())
    with pytest.raises(DocumentError, match=r"invalid-utf8 in the document at row 1: byte 0xff at 0"):
        read(path)
    skipped = read(path, on_error="skip")
    assert texts(skipped) == ["fine"]
    assert skipped[0].positions.tolist() == [0]
    assert [problem.position for problem in skipped[0].problems] == [1, 2, 3]
    replaced = read(path, on_error="replace")
    assert texts(replaced) == ["fine", "��", "�", "� end"]
    assert replaced[0].positions.tolist() == [0, 1, 2, 3]
    assert {problem.action for problem in replaced[0].problems} == {"replaced"}


def test_a_document_that_is_too_long(tmp_path: Path) -> None:
    path = save(tmp_path / "a.parquet", ["a", "b" * 1000, "c"])
    with pytest.raises(DocumentError, match=r"row 1: 1,000 bytes, more than .*999"):
        read(path, max_document_bytes=999)
    batches = read(path, max_document_bytes=999, on_error="skip")
    assert texts(batches) == ["a", "c"]
    assert [(problem.reason, problem.position) for problem in batches[0].problems] == [("too-large", 1)]


def test_a_dictionary_that_multiplies(tmp_path: Path) -> None:
    """A megabyte of text, said forty thousand times: 40 GB of documents in a few kilobytes."""
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 40_000, pa.int32()), pa.array(["x" * 1_000_000]))
    path = save(tmp_path / "a.parquet", words, compression="zstd")
    source = open_source(SourceOptions())
    (part,) = source.plan(str(path), slice_bytes=1 << 20)
    first = next(iter(source.read(part)))
    assert first.texts.nbytes <= 1 << 20


def test_a_page_that_expands_too_far(tmp_path: Path) -> None:
    path = save(tmp_path / "a.parquet", ["0" * 100_000_000], compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 100_000
    with pytest.raises(DamagedError, match=r"a page of 100,000,0\d\d bytes.*--max-document-bytes"):
        read(path)


def test_from_a_url(tmp_path: Path) -> None:
    rows = [f"document {number} " * 20 for number in range(500)]
    save(tmp_path / "a.parquet", rows, row_group_size=50)
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/a.parquet", (tmp_path / "a.parquet").read_bytes())
    assert texts(read("memory://bucket/a.parquet")) == rows
    with pytest.raises(StorageError, match="does not exist"):
        read("memory://bucket/b.parquet")
    with pytest.raises(StorageError, match="does not exist"):
        read(tmp_path / "b.parquet")
