"""Publishing: a name stands for complete content, or does not exist."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tokpack.dataset.publish import DirectoryLock, publish, write_file
from tokpack.errors import LockedError, StorageError


def test_a_name_appears_with_its_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with publish(path) as file:
        file.write(b"abc")
        file.write(memoryview(b"def"))
        assert not path.exists()
    assert path.read_bytes() == b"abcdef"
    info = file.info("file")
    assert (info.size_bytes, info.sha256) == (6, hashlib.sha256(b"abcdef").hexdigest())


def test_going_back_is_hashed_rightly(tmp_path: Path) -> None:
    with publish(tmp_path / "file") as file:
        file.write(b"....body")
        file.seek(0)
        file.write(b"head")
        file.seek(0, 2)
        file.write(b"!")
        assert file.info("file").sha256 == hashlib.sha256(b"headbody!").hexdigest()
    assert (tmp_path / "file").read_bytes() == b"headbody!"


def test_a_failure_leaves_no_name(tmp_path: Path) -> None:
    def fail() -> None:
        with publish(tmp_path / "file") as file:
            file.write(b"abc")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not (tmp_path / "file").exists()
    assert write_file(tmp_path / "file", b"later").size_bytes == 5


def test_what_the_system_refuses_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*nowhere"):
        write_file(tmp_path / "nowhere" / "file", b"")


def test_a_lock_names_its_owner_and_dies_with_it(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom tokpack.dataset.publish import DirectoryLock\n"
        f"lock = DirectoryLock(Path({str(tmp_path)!r}))\nlock.acquire()\n"
        "print('locked', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"locked\n"
        try:
            with pytest.raises(LockedError, match=f"in use by process {owner.pid}"):
                DirectoryLock(tmp_path).acquire()
        finally:
            owner.kill()
    lock = DirectoryLock(tmp_path / "work")
    lock.acquire()
    lock.release()
    assert not (tmp_path / "work").exists()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "content").touch()
    lock.acquire()
    lock.release()
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["content"]
