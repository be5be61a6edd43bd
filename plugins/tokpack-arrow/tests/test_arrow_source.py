"""Text columns of Arrow files, streams and saved Hugging Face datasets."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.feather
import pytest

from tokpack.errors import DamagedError, DocumentError, StorageError, UsageError
from tokpack.protocols import SourceBatch, SourceOptions
from tokpack.testing import shared_data
from tokpack_arrow.hub import open_source as open_hub
from tokpack_arrow.source import open_source


def read(path: Path | str, *, slice_bytes: int = 1, **options: Any) -> list[SourceBatch]:
    source = pickle.loads(pickle.dumps(open_source(SourceOptions(**options))))
    return [batch for part in source.plan(str(path), slice_bytes=slice_bytes) for batch in source.read(part)]


def texts(batches: list[SourceBatch]) -> list[str]:
    return [text for batch in batches for text in batch.texts]


def positions(batches: list[SourceBatch]) -> list[int]:
    return [position for batch in batches for position in batch.positions.tolist()]


def save(path: Path, column: Any, *, chunk: int = 3, stream: bool = False, **options: Any) -> Path:
    table = pa.table({"other": pa.nulls(len(column)), "text": column})
    opened = (pa.ipc.new_stream if stream else pa.ipc.new_file)(
        path, table.schema, options=pa.ipc.IpcWriteOptions(**options)
    )
    with opened as file:
        file.write_table(table, max_chunksize=chunk)
    return path


def test_documents_of_a_real_file() -> None:
    data = shared_data()
    expected = json.loads((data / "expected.json").read_text())["texts"]["tinystories_400_arrow"]
    total = hashlib.sha256()
    batches = read(data / "text/formats/tinystories_400.arrow")
    for text in texts(batches):
        total.update(len(text.encode()).to_bytes(4, "little") + text.encode())
    assert total.hexdigest() == expected["docs_sha256"]
    assert positions(batches) == list(range(400))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "binary", "dictionary"])
def test_every_kind_of_text_column(tmp_path: Path, stream: bool, compression: str | None, kind: str) -> None:
    rows = ["one", None, "", "drei ✓", "one", None, "x" * 5000]
    kinds = {
        "string": pa.string(),
        "large_string": pa.large_string(),
        "string_view": pa.string_view(),
        "binary": pa.binary(),
        "dictionary": pa.dictionary(pa.int32(), pa.string()),
    }
    path = save(
        tmp_path / "a.arrow", pa.array(rows).cast(kinds[kind]), stream=stream, compression=compression
    )
    for options in ({}, {"slice_bytes": 1 << 40}, {"batch_bytes": 10}):
        batches = read(path, **options)
        assert texts(batches) == [row for row in rows if row is not None]
        assert positions(batches) == [0, 2, 3, 4, 6]
        problems = [problem for batch in batches for problem in batch.problems]
        assert [(problem.reason, problem.position) for problem in problems] == [("null", 1), ("null", 5)]


@pytest.mark.parametrize("stream", [False, True])
def test_slices_share_out_all_bytes(tmp_path: Path, stream: bool) -> None:
    path = save(tmp_path / "a.arrow", pa.array([str(n) * 50 for n in range(1000)]), chunk=10, stream=stream)
    for slice_bytes in (1, 500, 10_000, 1 << 40):
        parts = open_source(SourceOptions()).plan(str(path), slice_bytes=slice_bytes)
        assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
        assert [part.byte_start for part in parts[1:]] == [part.byte_stop for part in parts[:-1]]
        assert (parts[0].start, parts[-1].stop) == (0, 100)
        assert (parts[0].byte_start, parts[-1].byte_stop) == (0, path.stat().st_size)
    assert len(open_source(SourceOptions()).plan(str(path), slice_bytes=1)) == 100


def test_feather_and_nested_columns(tmp_path: Path) -> None:
    pyarrow.feather.write_feather(pa.table({"text": ["a", "b"]}), tmp_path / "a.feather")
    assert texts(read(tmp_path / "a.feather")) == ["a", "b"]
    table = pa.table(
        {"meta": pa.array([{"body": "a", "n": 1}, None, {"body": None, "n": 2}, {"body": "b", "n": 3}])}
    )
    with pa.ipc.new_file(tmp_path / "b.arrow", table.schema) as file:
        file.write_table(table)
    assert texts(read(tmp_path / "b.arrow", text_field="meta.body")) == ["a", "b"]
    with pytest.raises(UsageError, match=r"its columns are: meta \(struct"):
        read(tmp_path / "b.arrow")


def test_the_limit_on_documents(tmp_path: Path) -> None:
    path = save(tmp_path / "a.arrow", pa.array(["a", "b" * 1000, "c"]))
    with pytest.raises(DocumentError, match=r"row 1: 1,000 bytes"):
        read(path, max_document_bytes=999)
    assert texts(read(path, max_document_bytes=999, on_error="skip")) == ["a", "c"]


def test_from_a_url(tmp_path: Path) -> None:
    path = save(tmp_path / "a.arrow", pa.array(["one", "two"] * 50))
    fsspec.filesystem("memory").pipe_file("/bucket/a.arrow", path.read_bytes())
    assert texts(read("memory://bucket/a.arrow")) == ["one", "two"] * 50


# hostile data


@pytest.mark.parametrize("edges", [[0, 2, 1, 3], [0, 1, 2, 2**30], [-5, 0, 0, 3], [0, 2**31 - 1, 2, 3]])
def test_text_offsets_that_lie(tmp_path: Path, edges: list[int]) -> None:
    path = save(tmp_path / "a.arrow", pa.array(["a", "b", "c"]))
    data = path.read_bytes()
    assert data.count(struct.pack("<4i", 0, 1, 2, 3)) == 1
    path.write_bytes(data.replace(struct.pack("<4i", 0, 1, 2, 3), struct.pack("<4i", *edges)))
    with pytest.raises(DamagedError, match="get the file again"):
        read(path)


def test_dictionary_indices_that_lie(tmp_path: Path) -> None:
    indices = pa.array([0, 99_999_999, 0], pa.int32())
    column = pa.DictionaryArray.from_arrays(indices, pa.array(["a"]), safe=False)
    with pytest.raises(DamagedError, match="damaged"):
        read(save(tmp_path / "a.arrow", column))


@pytest.mark.parametrize("stream", [False, True])
def test_a_batch_that_expands_too_far(tmp_path: Path, stream: bool) -> None:
    path = save(tmp_path / "a.arrow", pa.array(["0" * 140_000_000]), stream=stream, compression="zstd")
    assert path.stat().st_size < 50_000
    with pytest.raises(DamagedError, match="decompresses to more than 128 MiB"):
        read(path)


@pytest.mark.parametrize("claim", [2**31 - 1, 2**32 - 1, 2**62, 2**63 - 1])
def test_a_buffer_that_lies_about_its_size(tmp_path: Path, claim: int) -> None:
    path = save(tmp_path / "a.arrow", pa.array(["hello " * 100]), compression="zstd")
    data = path.read_bytes()
    size = struct.pack("<q", 600)
    assert size in data
    path.write_bytes(data.replace(size, struct.pack("<q", claim)))
    with pytest.raises(DamagedError, match="decompresses to more than"):
        read(path)


@pytest.mark.parametrize("stream", [False, True])
def test_truncated_anywhere(tmp_path: Path, stream: bool) -> None:
    path = save(tmp_path / "a.arrow", pa.array([f"text {n}" for n in range(9)]), stream=stream)
    data = path.read_bytes()
    for size in range(0, len(data) - (8 if stream else 0), 7):
        path.write_bytes(data[:size])
        with pytest.raises(DamagedError):
            read(path)


def test_an_extension_type_is_no_text(tmp_path: Path) -> None:
    field = pa.field(
        "text", pa.string(), metadata={"ARROW:extension:name": "evil", "ARROW:extension:metadata": "x"}
    )
    table = pa.table([pa.array(["a"])], schema=pa.schema([field]))
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as file:
        file.write_table(table)
    assert texts(read(tmp_path / "a.arrow")) == [
        "a"
    ]  # unknown: its storage, as Arrow says; nothing is called


# Hugging Face


def resolved(reference: str) -> list[str]:
    source = pickle.loads(pickle.dumps(open_hub(SourceOptions())))
    found = source.resolve(reference)
    batches = [b for path in found for part in source.plan(path, slice_bytes=1) for b in source.read(part)]
    return texts(batches)


def test_a_saved_dataset(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [f"story {number}" for number in range(30)]
    train = datasets.Dataset.from_dict({"text": rows, "label": list(range(30))})
    train.save_to_disk(str(tmp_path / "one"), num_shards=12)
    assert resolved(str(tmp_path / "one")) == rows
    both = datasets.DatasetDict({"train": train.select(range(20)), "test": train.select(range(20, 30))})
    both.save_to_disk(str(tmp_path / "two"))
    assert resolved(str(tmp_path / "two")) == rows[:20]
    assert resolved(f"{tmp_path / 'two'}#test") == rows[20:]
    with pytest.raises(UsageError, match=r"no split 'dev', only: train, test"):
        resolved(f"{tmp_path / 'two'}#dev")


def folder(tmp_path: Path, state: str) -> str:
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "state.json").write_text(state)
    save(tmp_path / "outside.arrow", pa.array(["secret"]))
    return str(saved)


@pytest.mark.parametrize(
    "name",
    [
        "../outside.arrow",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/b.arrow",
        "..\\x",
        "C:\\x",
        "a\0b",
        "-x",
        "x" * 300,
        "a\n",
    ],
)
def test_a_folder_that_points_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(DamagedError, match=r"state\.json is not what save_to_disk writes"):
        resolved(folder(tmp_path, json.dumps({"_data_files": [{"filename": name}]})))


def test_a_folder_with_a_link(tmp_path: Path) -> None:
    saved = folder(tmp_path, json.dumps({"_data_files": [{"filename": "link.arrow"}]}))
    Path(saved, "link.arrow").symlink_to(tmp_path / "outside.arrow")
    with pytest.raises(DamagedError, match="no regular file"):
        resolved(saved)


@pytest.mark.parametrize(
    "state", ["", "{", "[]", "[" * 100_000, '{"_data_files": 3}', '{"_data_files": ["a"]}']
)
def test_a_folder_that_describes_nothing(tmp_path: Path, state: str) -> None:
    with pytest.raises(DamagedError, match=r"state\.json is not what save_to_disk writes"):
        resolved(folder(tmp_path, state))


def test_a_shuffled_folder_is_refused(tmp_path: Path) -> None:
    state = {"_data_files": [], "_indices_data_files": [{"filename": "indices.arrow"}]}
    with pytest.raises(UsageError, match="flatten_indices"):
        resolved(folder(tmp_path, json.dumps(state)))


def test_what_is_no_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no state\.json"):
        resolved(str(tmp_path))
    with pytest.raises(StorageError, match="no folder"):
        resolved("./nowhere")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(StorageError, match=r"cannot load nobody/nothing from the hub"):
        resolved("nobody/nothing")
