"""Datasets on object stores: a real S3-speaking server on loopback, and memory."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tokpack.dataset.store import Dataset, open_dataset
from tokpack.dataset.verify import verify_dataset
from tokpack.encoding import transfer
from tokpack.encoding.api import encode
from tokpack.encoding.transfer import delivered, download_dataset, upload_dataset
from tokpack.errors import DamagedError, StorageError, TokpackError, UsageError

fsspec = pytest.importorskip("fsspec")

LINES = "".join(json.dumps({"text": f"document {number}"}) + "\n" for number in range(50))


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    store = fsspec.filesystem("s3")
    store.mkdir("bucket")
    yield store
    store.rm("bucket", recursive=True)
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def memory() -> Iterator[Any]:
    store = fsspec.filesystem("memory")
    yield store
    if store.exists("/bucket"):
        store.rm("/bucket", recursive=True)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "a.jsonl").write_text(LINES)
    return encode(folder / "a.jsonl", folder / "tokenized", tokenizer="byte", shard_bytes=500)


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from tokpack.cli.app import main; sys.argv[0] = 'tokpack'; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env={**os.environ})


def test_from_s3_to_s3(s3: Any, tmp_path: Path, dataset: Dataset) -> None:
    s3.pipe("bucket/texts/a.jsonl", LINES.encode())
    s3.pipe("bucket/texts/readme.pdf", b"not text")
    done = run(
        "encode", "s3://bucket/texts", "-t", "byte", "-o", "s3://bucket/out", "-j", "2", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    manifest = download_dataset("s3://bucket/out", tmp_path / "here")
    assert verify_dataset(tmp_path / "here").findings == ()
    assert manifest.splits["train"].digest == dataset.manifest.splits["train"].digest
    assert [source.name for source in manifest.sources] == ["a.jsonl"]
    again = run("encode", "s3://bucket/texts", "-t", "byte", "-o", "s3://bucket/out", folder=tmp_path)
    assert again.returncode == 2
    assert "holds a dataset already" in again.stderr
    converted = run("convert", "here", "-f", "npy", "-o", "s3://bucket/npy", folder=tmp_path)
    assert converted.returncode == 0, converted.stderr
    copied = run("copy", "s3://bucket/npy", "npy", folder=tmp_path)
    assert copied.returncode == 0, copied.stderr
    assert open_dataset(tmp_path / "npy")["train"].fingerprint == manifest.splits["train"].digest


@pytest.mark.usefixtures("s3")
def test_the_manifest_is_the_commit(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An upload that stops before any file leaves no dataset; the same upload again completes it."""
    url, put = "s3://bucket/stopped", transfer._put
    count = len(dataset.manifest.paths())
    for stop in (0, 1, count // 2, count):
        files = itertools.count()

        def failing(*arguments: Any, stop: int = stop, files: Iterator[int] = files) -> None:
            if next(files) == stop:
                raise OSError("the network went away")
            put(*arguments)

        monkeypatch.setattr(transfer, "_put", failing)
        with pytest.raises(StorageError, match="the network went away"):
            upload_dataset(dataset.path, url)
        with pytest.raises(StorageError, match="its upload was not completed"):
            download_dataset(url, tmp_path / "none")
    monkeypatch.setattr(transfer, "_put", put)
    upload_dataset(dataset.path, url)
    assert download_dataset(url, tmp_path / "here") == dataset.manifest


@pytest.mark.usefixtures("memory")
def test_there_and_back_byte_for_byte(dataset: Dataset, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    upload_dataset(
        dataset.path, "memory://bucket/out", progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1][0] == seen[-1][1]
    download_dataset("memory://bucket/out", tmp_path / "here")
    ours = {
        path.relative_to(dataset.path): path.read_bytes()
        for path in dataset.path.rglob("*")
        if path.is_file()
    }
    here = tmp_path / "here"
    assert {path.relative_to(here): path.read_bytes() for path in here.rglob("*") if path.is_file()} == ours
    with pytest.raises(UsageError, match="holds a dataset already"):
        upload_dataset(dataset.path, "memory://bucket/out")
    upload_dataset(dataset.path, "memory://bucket/out", overwrite=True)


@pytest.mark.parametrize("change", ["flip", "shorter", "longer", "missing"])
def test_what_came_back_changed(memory: Any, dataset: Dataset, tmp_path: Path, change: str) -> None:
    upload_dataset(dataset.path, "memory://bucket/out")
    name = f"/bucket/out/{dataset.manifest.splits['train'].shards[0].file.name}"
    content = memory.cat_file(name)
    if change == "missing":
        memory.rm_file(name)
    else:
        changed = {
            "flip": bytes([content[0] ^ 1]) + content[1:],
            "shorter": content[:-1],
            "longer": content + b"x",
        }
        memory.pipe_file(name, changed[change])
    with pytest.raises((DamagedError, StorageError)):
        download_dataset("memory://bucket/out", tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../outside.bin", "/etc/cron.d/x", "a/../../b", "..", "C:\\x"])
def test_a_manifest_that_names_files_outside(
    memory: Any, dataset: Dataset, tmp_path: Path, name: str
) -> None:
    upload_dataset(dataset.path, "memory://bucket/out")
    shard = dataset.manifest.splits["train"].shards[0].file.name
    forged = memory.cat_file("/bucket/out/manifest.json").replace(
        json.dumps(shard).encode(), json.dumps(name).encode()
    )
    memory.pipe_file("/bucket/out/manifest.json", forged)
    with pytest.raises(DamagedError, match="damaged"):
        download_dataset("memory://bucket/out", tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


def test_an_upload_that_fails_says_how_to_finish(
    memory: Any, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def refuse(*arguments: Any, **more: Any) -> None:
        raise OSError("no space on the store")

    monkeypatch.setattr(type(memory), "put_file", refuse)

    def make() -> None:
        with delivered("memory://bucket/out", overwrite=False) as folder:
            shutil.copytree(dataset.path, folder)

    with pytest.raises(
        StorageError, match=r"complete in out.upload; upload it with: tokpack copy out.upload"
    ):
        make()
    assert verify_dataset(tmp_path / "out.upload").findings == ()
    with pytest.raises(UsageError, match="was not uploaded; upload it with: tokpack copy"):
        make()


def test_urls_where_folders_belong(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="tokpack copy s3://bucket/x FOLDER"):
        open_dataset("s3://bucket/x")
    with pytest.raises(UsageError, match="tokpack copy FOLDER URL"):
        encode(dataset.path, "s3://bucket/x", tokenizer="byte")


def test_no_credentials_is_one_sentence(s3_server: str, tmp_path: Path) -> None:
    hidden = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    more = {"AWS_ENDPOINT_URL": s3_server, "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    code = (
        "from tokpack.urls import open_input\nfrom tokpack.errors import StorageError\n"
        "try:\n    open_input('s3://private/key')\nexcept StorageError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=hidden | more)
    assert "cannot access s3://private/key" in done.stdout, done.stderr
    assert "credentials" in done.stdout
    assert issubclass(StorageError, TokpackError)
