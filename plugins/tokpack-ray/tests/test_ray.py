"""Encoding on a cluster, as people run it, and workers that are lost."""

from __future__ import annotations

import filecmp
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from tokpack.errors import IncompleteError
from tokpack_ray.executor import RayExecutor

TOKPACK = Path(sys.executable).with_name("tokpack")


def tokpack(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOKPACK, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    lines = (json.dumps({"text": f"story {number} " * (number % 40)}) for number in range(3000))
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_the_same_bytes_as_in_one_process(corpus: Path) -> None:
    address = ray.get_runtime_context().gcs_address
    common = ("encode", "a.jsonl", "-t", "byte", "--unit-bytes", "100kB")
    alone = tokpack(*common, "-o", "one", "--executor", "serial", cwd=corpus)
    joined = tokpack(*common, "-o", "many", "--executor", "ray", "-j", "2", cwd=corpus, RAY_ADDRESS=address)
    assert alone.returncode == joined.returncode == 0, joined.stderr
    names = sorted(path.relative_to(corpus / "one") for path in (corpus / "one").rglob("*") if path.is_file())
    same, different, missing = filecmp.cmpfiles(corpus / "one", corpus / "many", names, shallow=False)
    assert len(same) == len(names) > 2, (different, missing)


def test_a_broken_document_is_named_as_ever(corpus: Path) -> None:
    with (corpus / "a.jsonl").open("a") as file:
        file.write("\n{broken\n")
    address = ray.get_runtime_context().gcs_address
    done = tokpack("encode", "a.jsonl", "-t", "byte", "--executor", "ray", cwd=corpus, RAY_ADDRESS=address)
    assert done.returncode == 1
    assert "a.jsonl" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cluster_that_is_not_there(corpus: Path) -> None:
    done = tokpack(
        *("encode", "a.jsonl", "-t", "byte", "--executor", "ray"),
        cwd=corpus,
        RAY_ADDRESS="127.0.0.1:1",
    )
    assert done.returncode == 4, done.stderr
    assert "RAY_ADDRESS" in done.stderr
    assert "Traceback" not in done.stderr


def die(unit: int) -> int:
    """End this process without a word at unit 3."""
    if unit == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return unit


def test_a_lost_worker_ends_the_work() -> None:
    with pytest.raises(IncompleteError, match="run the same command again"):
        list(RayExecutor(2).run(die, range(8)))


def test_a_node_without_the_folder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokpack_ray.executor.Path.cwd", lambda: Path("/not/on/this/node"))
    with pytest.raises(IncompleteError, match=r"/not/on/this/node.*every node has this folder"):
        list(RayExecutor(1).run(abs, range(3)))


def test_more_workers_than_cores_do_not_hold_up_the_work() -> None:
    assert sorted(RayExecutor(5).run(abs, range(20))) == list(range(20))
