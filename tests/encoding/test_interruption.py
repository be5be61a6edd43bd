"""Killed, stopped, out of space, in each other's way: the same command continues to the same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("tokpack"))
OPTIONS = ["-t", "byte", "--unit-bytes", "20kB", "--shard-bytes", "150kB", "--val-fraction", "0.1", "-j", "2"]


def digest(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rng = random.Random(5)
    with (folder / "a.jsonl").open("w") as file:
        for number in range(4000):
            text = f"{number} " + "".join(rng.choices("abcdefgh \n", k=rng.randrange(1200)))
            print(json.dumps({"text": text}), file=file)
    subprocess.run([COMMAND, "encode", "a.jsonl", *OPTIONS, "-o", "expected", "-q"], cwd=folder, check=True)
    return folder


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [COMMAND, "encode", "a.jsonl", *OPTIONS, *options]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(folder: Path, *options: str) -> tuple[int, str]:
    """Run the command to its end; return exit code and standard error."""
    with start(folder, *options) as process:
        _, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors, errors
    return process.returncode, errors


def wait_for_work(folder: Path, process: subprocess.Popen[str]) -> None:
    """Return once some units are finished and others are not."""
    journal = folder / "tokenized.partial" / "journal"
    while process.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.002)


def interrupt(folder: Path, strike: Callable[[subprocess.Popen[str]], object]) -> tuple[int, str]:
    """Strike at unfinished work, again where encode was quicker; return exit code and standard error."""
    for _ in range(50):
        with start(folder) as process:
            wait_for_work(folder, process)
            strike(process)
            _, errors = process.communicate(timeout=30)
        if not (folder / "tokenized").exists():
            return process.returncode, errors
        shutil.rmtree(folder / "tokenized")
    pytest.fail("encode was quicker every time")


@pytest.fixture
def folder(corpus: Path, tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "a.jsonl").symlink_to(corpus / "a.jsonl")
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.parametrize(
    "rounds", [8, pytest.param(50, marks=pytest.mark.nightly), pytest.param(200, marks=pytest.mark.nightly)]
)
def test_killed_at_any_instant_it_continues_to_the_same_bytes(
    corpus: Path, folder: Path, rounds: int, record_property: Callable[[str, object], None]
) -> None:
    expected = digest(corpus / "expected")
    rng = random.Random(rounds)
    begun = time.monotonic()
    assert finish(folder)[0] == 0
    whole_run = time.monotonic() - begun
    killed = 0
    for _ in range(rounds):
        shutil.rmtree(folder / "tokenized", ignore_errors=True)
        for _ in range(rng.randrange(1, 3)):  # also killed while it resumes
            with start(folder) as process:
                try:
                    process.communicate(timeout=whole_run * rng.uniform(0.2, 0.95))
                except subprocess.TimeoutExpired:
                    process.kill()
                    killed += 1
            if (folder / "tokenized").exists():
                break
        if not (folder / "tokenized").exists():
            code, errors = finish(folder)
            assert code == 0, errors
        assert digest(folder / "tokenized") == expected
    assert killed >= rounds // 4
    what = "kill -9, then the same bytes"  # for the table at the end of the run
    record_property("proved", [what, killed, time.monotonic() - begun])
    (folder / "tokenized").rename(folder / "kept")
    assert finish(folder)[0] == 0  # what a kill after the commit may leave is cleared away
    assert sorted(path.name for path in folder.iterdir()) == ["a.jsonl", "kept", "tokenized"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_politely_it_says_how_to_go_on(corpus: Path, folder: Path, number: int, code: int) -> None:
    # As a terminal or a batch system does: the whole group.
    returned, errors = interrupt(folder, lambda process: os.killpg(process.pid, number))
    assert returned == code, errors
    assert "run the same command again to continue" in errors
    assert "Traceback" not in errors
    assert not (folder / "tokenized").exists()
    code, errors = finish(folder)
    assert code == 0, errors
    assert "continuing" in errors
    assert digest(folder / "tokenized") == digest(corpus / "expected")


def test_the_second_encode_into_one_directory_exits_at_once(corpus: Path, folder: Path) -> None:
    with start(folder) as first:
        lock = folder / "tokenized.partial" / "lock"
        while not (lock.exists() and lock.stat().st_size):  # the owner's name is written under the lock
            time.sleep(0.002)
        os.kill(first.pid, signal.SIGSTOP)
        try:
            code, errors = finish(folder)  # would never end if it waited for the first
        finally:
            os.kill(first.pid, signal.SIGCONT)
        assert code == 75
        assert f"in use by process {first.pid}" in errors
        first.communicate(timeout=60)
    assert first.returncode == 0
    assert digest(folder / "tokenized") == digest(corpus / "expected")


def test_a_dead_worker_is_noticed_and_named(corpus: Path, folder: Path) -> None:
    def kill_a_worker(process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[:1]:
                os.kill(int(child), signal.SIGKILL)

    if not Path("/proc/self/task", str(os.getpid()), "children").exists():
        pytest.skip("this kernel does not list the children of a process")
    code, errors = interrupt(folder, kill_a_worker)
    assert code == 3, errors
    assert "was killed by SIGKILL" in errors
    assert finish(folder)[0] == 0
    assert digest(folder / "tokenized") == digest(corpus / "expected")


def interrupted(folder: Path) -> None:
    """Leave unfinished work behind."""
    interrupt(folder, lambda process: process.kill())
    assert (folder / "tokenized.partial").exists()


def test_other_options_do_not_continue_the_work(folder: Path) -> None:
    interrupted(folder)
    code, errors = finish(folder, "--max-length", "100")
    assert code == 5
    assert "options.max_length: None, now 100" in errors
    assert "--overwrite" in errors
    assert finish(folder, "--max-length", "100", "--overwrite")[0] == 0


def test_a_changed_source_is_noticed(corpus: Path, folder: Path) -> None:
    interrupted(folder)
    content = (corpus / "a.jsonl").read_bytes().replace(b"abc", b"abd").replace(b"ha", b"hb")
    (folder / "a.jsonl").unlink()
    (folder / "a.jsonl").write_bytes(content)
    code, errors = finish(folder)
    assert code == 5, errors
    assert "a.jsonl has changed" in errors


def test_after_a_broken_document_work_goes_on_with_another_policy(folder: Path) -> None:
    lines = [json.dumps({"text": f"line {number} " * 20}) for number in range(2000)]
    lines[1500] = "{broken"
    (folder / "a.jsonl").unlink()
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    code, errors = finish(folder)
    assert code == 1
    assert "bad-json" in errors
    code, errors = finish(folder, "--on-error", "skip")
    assert code == 0, errors
    assert "continuing" in errors
    assert finish(folder, "--on-error", "skip", "-o", "whole")[0] == 0
    assert digest(folder / "whole") == digest(folder / "tokenized")


def test_a_full_disk_leaves_work_that_continues(corpus: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs privileges")
    try:
        command = [COMMAND, "encode", str(corpus / "a.jsonl"), *OPTIONS, "-o", str(disk / "tokenized")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 4, done.stderr
        assert "No space left on device; free some space" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (disk / "tokenized").exists()
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        assert "continuing" in done.stderr
        assert digest(disk / "tokenized") == digest(corpus / "expected")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
