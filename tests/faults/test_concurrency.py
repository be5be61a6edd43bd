"""Several processes at one dataset, and signals to one of several."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from scenarios import snapshot

import tokpack
from tokpack.dataset.publish import DirectoryLock
from tokpack.dataset.verify import verify_dataset
from tokpack.errors import LockedError, StorageError, TokpackError

COMMAND = str(Path(sys.executable).with_name("tokpack"))
ENCODE = [
    *(COMMAND, "encode", "a.jsonl", "-t", "byte", "-j", "2"),
    *("--unit-bytes", "20kB", "--shard-bytes", "150kB"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = random.Random(7)
    with (tmp_path / "a.jsonl").open("w") as file:
        for number in range(3000):
            text = f"{number} " + "".join(rng.choices("abcdefgh \n", k=rng.randrange(1000)))
            file.write(json.dumps({"text": text}) + "\n")
    return tmp_path


def begun(folder: Path) -> subprocess.Popen[str]:
    """Start an encode and wait until its workers have finished a part."""
    streams = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(ENCODE, cwd=folder, text=True, start_new_session=True, **streams)
    journal = folder / "tokenized.partial" / "journal"
    while process.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.002)
    return process


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if not listed.exists():
        pytest.skip("this kernel does not list the children of a process")
    return [int(child) for child in listed.read_text().split()]


def test_sigterm_to_one_worker_changes_nothing(folder: Path) -> None:
    """A batch system signals every process it knows; what that means is for the parent to say."""
    with begun(folder) as process:
        for child in children(process.pid)[:1]:
            os.kill(child, signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert verify_dataset(folder / "tokenized").exit_code == 0


def test_sigterm_to_the_parent_alone_ends_its_workers(folder: Path) -> None:
    with begun(folder) as process:
        workers = children(process.pid)
        os.kill(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "run the same command again" in errors
    deadline = time.monotonic() + 10
    while [worker for worker in workers if Path(f"/proc/{worker}").exists()] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
    assert subprocess.run(ENCODE, cwd=folder, stdin=subprocess.DEVNULL, check=False).returncode == 0
    assert subprocess.run([*ENCODE, "-o", "whole"], cwd=folder, stdin=subprocess.DEVNULL).returncode == 0
    assert snapshot(folder / "tokenized") == snapshot(folder / "whole")


@pytest.mark.parametrize("content", ["", "process 1 on another-host\n", "process 4194304\n", "\0" * 99])
def test_a_lock_that_nobody_holds_is_taken(content: str, tmp_path: Path) -> None:
    """Its content names an owner for people; whether there is one is the operating system's to say."""
    (tmp_path / "lock").write_text(content)
    lock = DirectoryLock(tmp_path)
    lock.acquire()
    other = (  # reading the file here would end the lock: so POSIX has it
        "from pathlib import Path; from tokpack.dataset.publish import DirectoryLock\n"
        f"DirectoryLock(Path({str(tmp_path)!r})).acquire()"
    )
    done = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=False)
    assert LockedError.__name__ in done.stderr
    assert f"in use by process {os.getpid()}" in done.stderr
    lock.release()
    assert not (tmp_path / "lock").exists()


def test_threads_of_one_process_are_kept_apart(tmp_path: Path) -> None:
    """To the operating system they are one owner."""
    first, second = DirectoryLock(tmp_path / "work"), DirectoryLock(tmp_path / "work")
    first.acquire()
    with pytest.raises(LockedError, match=f"process {os.getpid()}, which is this one"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    for _ in range(2):  # the second time it is not in use by this process
        with pytest.raises(StorageError):
            DirectoryLock(Path("/dev/null/nowhere")).acquire()


@pytest.mark.parametrize("begin_apart_s", [0.0, 0.05, 0.3])
def test_encodes_begun_apart(folder: Path, begin_apart_s: float) -> None:
    running = []
    for _ in range(3):
        running.append(subprocess.Popen(ENCODE, cwd=folder, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE))
        time.sleep(begin_apart_s)
    ends = []
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert b"Traceback" not in errors, errors
        ends.append(process.returncode)
    assert ends.count(0) == 1, ends
    assert set(ends) <= {0, 2, 75}, ends
    assert verify_dataset(folder / "tokenized").exit_code == 0


@pytest.mark.parametrize("rounds", [30])
def test_all_uses_of_a_dataset_while_it_is_replaced(rounds: int, tmp_path: Path, proved) -> None:
    """Verified, opened, read: an answer about the old, about the new, or a named error; nothing else."""
    for number in (1, 2):
        (tmp_path / f"{number}.txt").write_text("abc" * number * 1000)
    tokpack.encode(tmp_path / "1.txt", tmp_path / "set", tokenizer="byte")
    wrong: list[BaseException] = []
    uses = [0, 0]
    stop = threading.Event()

    def verify() -> None:
        verify_dataset(tmp_path / "set", threads=1)
        uses[0] += 1

    def read() -> None:
        tokens = tokpack.open_dataset(tmp_path / "set")["train"].tokens()
        assert len(tokens) in (3001, 6001)
        assert tokens[0] == ord("a")
        assert tokens[-1] == 256
        uses[1] += 1

    def repeat(use) -> None:
        while not stop.is_set():
            try:
                use()
            except TokpackError:
                continue
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=repeat, args=(use,)) for use in (verify, read)]
    for thread in threads:
        thread.start()
    for number in range(rounds):
        tokpack.encode(tmp_path / f"{number % 2 + 1}.txt", tmp_path / "set", tokenizer="byte", overwrite=True)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    assert min(uses) > 0
    proved("replaced while being read", rounds)
