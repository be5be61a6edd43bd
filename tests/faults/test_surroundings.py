"""The real command in poor surroundings: no terminal to write to, odd names, tight limits, others at work."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from counts import scaled
from scenarios import snapshot

import tokpack
from tokpack.dataset.verify import verify_dataset
from tokpack.errors import TokpackError

COMMAND = str(Path(sys.executable).with_name("tokpack"))
LIMIT_KIB = 512 << 10
ENCODE = [COMMAND, "encode", "a.jsonl", "-t", "byte", "-j", "1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [json.dumps({"text": f"document {number}"}) for number in range(200)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(folder: Path, command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
    settings = {"stdin": subprocess.DEVNULL, "capture_output": True} | options
    done = subprocess.run(command, cwd=folder, check=False, timeout=120, **settings)  # type: ignore[call-overload]
    assert b"Traceback" not in (done.stderr or b""), done.stderr.decode()
    return done


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_harm_no_file(folder: Path, closed: str) -> None:
    assert run(folder, [*ENCODE, "-o", "expected"]).returncode == 0
    command = " ".join([*ENCODE, "-o", "set", closed])
    assert run(folder, ["bash", "-c", command]).returncode == 0
    assert snapshot(folder / "set") == snapshot(folder / "expected")


def test_a_reader_that_leaves_is_no_fault(folder: Path) -> None:
    assert run(folder, ENCODE).returncode == 0
    for command in ("info tokenized", "verify tokenized", "decode tokenized", "plugins", "--help"):
        done = run(folder, ["bash", "-c", f"{COMMAND} {command} | true"])
        assert b"Exception" not in done.stderr, done.stderr


def test_a_full_standard_output_is_told_by_the_exit_code(folder: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    assert run(folder, ENCODE).returncode == 0
    done = run(folder, ["bash", "-c", f"{COMMAND} verify tokenized --json > /dev/full"])
    assert done.returncode == 4, done.stderr


@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent"},
        {"PYTHONHASHSEED": "1"},
        {"TZ": "Pacific/Apia", "LANG": "tr_TR.UTF-8"},
    ],
    ids=["c-locale", "no-home", "hash-seed", "other-clock"],
)
def test_surroundings_do_not_show_in_the_bytes(folder: Path, env: dict[str, str]) -> None:
    (folder / "a.jsonl").write_text(json.dumps({"text": "Grüße, 世界 🌍"}, ensure_ascii=False) + "\n")
    assert run(folder, [*ENCODE, "-o", "expected"]).returncode == 0
    done = run(folder, ENCODE, env=os.environ | env)
    assert done.returncode == 0, done.stderr
    assert snapshot(folder / "tokenized") == snapshot(folder / "expected")


@pytest.mark.parametrize(
    "name",
    ["grüße 世界.jsonl", "a b\tc.jsonl", "-rf.jsonl", "a\nb.jsonl", "x" * 249 + ".jsonl", "%s{}$(id).jsonl"],
)
def test_odd_names_of_inputs(folder: Path, name: str) -> None:
    (folder / "in").mkdir()
    (folder / "a.jsonl").rename(folder / "in" / name)
    done = run(folder, [COMMAND, "encode", "in", "-t", "byte", "-j", "1"])
    assert done.returncode == 0, done.stderr.decode()
    assert tokpack.open_dataset(folder / "tokenized").manifest.sources[0].name == name
    assert verify_dataset(folder / "tokenized").exit_code == 0


def test_a_name_that_is_no_unicode_is_named(folder: Path) -> None:
    (folder / "in").mkdir()
    os.rename(folder / "a.jsonl", os.fsencode(folder / "in") + b"/\xff\xfe.jsonl")  # noqa: PTH104
    done = run(folder, [COMMAND, "encode", "in", "-t", "byte", "-j", "1"])
    assert done.returncode == 2
    assert b"not valid UTF-8" in done.stderr


def test_private_files_stay_private(folder: Path) -> None:
    assert run(folder, ["bash", "-c", f"umask 077; {' '.join(ENCODE)}"]).returncode == 0
    for path in [folder / "tokenized", *(folder / "tokenized").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def limited(**limits: int) -> Callable[[], None]:
    def apply() -> None:
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))

    return apply


def test_few_open_files_are_enough(folder: Path) -> None:
    options = ["--shard-bytes", "20", "--unit-bytes", "200"]
    done = run(folder, [*ENCODE, *options], preexec_fn=limited(NOFILE=64))
    assert done.returncode == 0, done.stderr
    done = run(folder, [COMMAND, "verify", "tokenized"], preexec_fn=limited(NOFILE=64))
    assert done.returncode == 0, done.stdout


def test_a_file_size_limit_is_a_named_error(folder: Path) -> None:
    done = run(folder, [*ENCODE, "-o", "set"], preexec_fn=limited(FSIZE=1500))
    assert done.returncode == 4, done.stderr
    assert b"File too large" in done.stderr
    assert run(folder, [*ENCODE, "-o", "set"]).returncode == 0


def test_one_of_many_works_the_others_are_told(folder: Path) -> None:
    """N encodes to one directory, begun together: each makes it, finds it made, or finds it in use."""
    for _ in range(3):
        shutil.rmtree(folder / "tokenized", ignore_errors=True)
        running = [subprocess.Popen(ENCODE, cwd=folder, stderr=subprocess.PIPE) for _ in range(4)]
        codes = []
        for process in running:
            _, errors = process.communicate(timeout=60)
            assert b"Traceback" not in errors
            codes.append(process.returncode)
        assert codes.count(0) == 1, codes
        assert set(codes) <= {0, 2, 75}, codes
        assert verify_dataset(folder / "tokenized").exit_code == 0
        assert not (folder / "tokenized.partial").exists()


@pytest.mark.parametrize("rounds", [40, pytest.param(scaled(2_000), marks=pytest.mark.nightly)])
def test_a_reader_sees_the_old_or_the_new(folder: Path, rounds: int, proved) -> None:
    """While a dataset is replaced again and again, whoever opens it has one of the two, whole."""
    sizes = set()
    for number in (1, 2):
        (folder / f"{number}.txt").write_text("x" * number * 1000)
        sizes.add(
            tokpack.encode(folder / f"{number}.txt", folder / f"{number}", tokenizer="byte")["train"]
            .tokens()
            .size
        )
    tokpack.encode(folder / "1.txt", folder / "set", tokenizer="byte")
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(tokpack.open_dataset(folder / "set")["train"].tokens().size)
            except TokpackError:  # opened as the old one, read as the new one: noticed by its size
                seen.append(0)
            time.sleep(0.001)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(rounds):
        tokpack.encode(folder / f"{number % 2 + 1}.txt", folder / "set", tokenizer="byte", overwrite=True)
    stop.set()
    reader.join()
    assert set(seen) <= {0, *sizes}
    assert len(seen) > 10
    proved("replaced while being read", rounds)


@pytest.mark.parametrize("megabytes", [300, pytest.param(1000, marks=pytest.mark.nightly)])
def test_one_enormous_line_is_named_within_bounded_memory(folder: Path, megabytes: int, proved) -> None:
    one_thread = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # each reserves memory that it does not use
    encode = f"{COMMAND} encode -t byte -j 1 --text-split lines"
    line = f"head -c {megabytes}000000 /dev/zero | tr '\\0' x"

    def encoded(script: str) -> subprocess.CompletedProcess[bytes]:
        return run(folder, ["bash", "-c", f"ulimit -v {LIMIT_KIB}; {script}"], env=one_thread)

    done = encoded(f"{line} | {encode}")
    assert done.returncode == 1, done.stderr
    assert b"too-large" in done.stderr, done.stderr
    done = encoded(f"(echo short; {line}) | {encode} --on-error skip")
    assert done.returncode == 0, done.stderr
    proved("MB of one line, in 512 MiB", megabytes)
