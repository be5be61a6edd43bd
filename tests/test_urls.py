"""Inputs behind URLs."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tokpack.errors import DamagedError, StorageError, UsageError
from tokpack.protocols import SourceOptions
from tokpack.sources import jsonl, text
from tokpack.urls import expand, input_size, is_url, open_input

fsspec = pytest.importorskip("fsspec")

LINES = b'{"text": "one"}\n{"text": "two"}\n'


@pytest.fixture
def memory() -> Iterator[None]:
    store = fsspec.filesystem("memory")
    store.pipe({"/bucket/b.jsonl": LINES, "/bucket/a/a.jsonl.gz": gzip.compress(LINES)})
    store.pipe({"/bucket/c.jsonl.zst": zstandard.compress(LINES), "/bucket/d.txt": b"some text"})
    store.pipe({"/bucket/cut.jsonl.gz": gzip.compress(LINES)[:-4]})
    yield
    store.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("s3://bucket/key", True),
        ("memory://a", True),
        ("simplecache::s3://bucket/key", True),
        ("C:\\texts", False),
        ("c://x", False),
        ("/tmp/a", False),
        ("data/a:b", False),
        ("tiktoken:gpt2", False),
    ],
)
def test_what_is_a_url(path: str, answer: bool) -> None:
    assert is_url(path) is answer


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("name", ["b.jsonl", "a/a.jsonl.gz", "c.jsonl.zst"])
def test_json_lines_from_a_url(name: str) -> None:
    source = jsonl.open_source(SourceOptions())
    parts = source.plan(f"memory://bucket/{name}", slice_bytes=20)
    assert len(parts) == (2 if name == "b.jsonl" else 1)
    assert [text for part in parts for batch in source.read(part) for text in batch.texts] == ["one", "two"]


@pytest.mark.usefixtures("memory")
def test_text_from_a_url() -> None:
    source = text.open_source(SourceOptions())
    (part,) = source.plan("memory://bucket/d.txt", slice_bytes=4)
    assert [document for batch in source.read(part) for document in batch.texts] == ["some text"]
    assert input_size("memory://bucket/d.txt") == 9


@pytest.mark.usefixtures("memory")
def test_a_truncated_file_behind_a_url() -> None:
    source = jsonl.open_source(SourceOptions())
    (part,) = source.plan("memory://bucket/cut.jsonl.gz", slice_bytes=100)
    with pytest.raises(DamagedError, match=r"memory://bucket/cut.jsonl.gz: damaged or truncated"):
        list(source.read(part))


@pytest.mark.usefixtures("memory")
def test_patterns_and_folders() -> None:
    both = ["memory:///bucket/b.jsonl", "memory:///bucket/c.jsonl.zst"]
    assert expand("memory://bucket/*.jsonl*") == [*both[:1], both[1], "memory:///bucket/cut.jsonl.gz"]
    assert expand("memory://bucket/a") == ["memory:///bucket/a/a.jsonl.gz"]
    assert expand("memory://bucket/b.jsonl") == ["memory://bucket/b.jsonl"]


@pytest.mark.usefixtures("memory")
def test_errors_while_reading_name_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, size: int = -1) -> bytes:
        raise RuntimeError("the token has expired")

    file = open_input("memory://bucket/b.jsonl")
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFile.read", fail, raising=False)
    with (
        file,
        pytest.raises(StorageError, match=r"cannot access memory://bucket/b.jsonl: the token has expired"),
    ):
        file.read(10)


def test_errors_name_the_url_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"memory://bucket/none does not exist"):
        open_input("memory://bucket/none")
    with pytest.raises(StorageError, match="does not exist"):
        open_input(str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no filesystem for nonsense://"):
        open_input("nonsense://bucket/key")
    with pytest.raises(StorageError, match="cannot access"):
        open_input(str(tmp_path))
