"""Publishing: a name stands for complete content, or does not exist."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tokpack
from tokpack.dataset.publish import (
    DirectoryLock,
    exchange_by_renaming,
    publish,
    restore_exchanged,
    write_file,
)
from tokpack.errors import LockedError, StorageError, UsageError


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


def test_a_sync_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=r"cannot write .*file: Input/output error"):
        write_file(tmp_path / "file", b"content")
    assert not (tmp_path / "file").exists()


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice")
def test_the_disk_is_told_to_begin_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr("tokpack.dataset.publish._WRITEBACK_BYTES", 4)
    monkeypatch.setattr(os, "posix_fadvise", lambda file, start, size, advice: told.append((start, size)))
    with publish(tmp_path / "file") as file:
        for part in (b"abc", b"defgh", b"", b"i", b"jklm", b"n"):
            file.write(part)
    assert (tmp_path / "file").read_bytes() == b"abcdefghijklmn"
    assert told == [(0, 8), (8, 5)]


def test_short_writes_are_continued(tmp_path: Path) -> None:
    class Slow:
        """A file that takes three bytes at a time, as a raw file may."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, data: memoryview) -> int:
            return int(self.file.write(data[:3]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    with publish(tmp_path / "file") as file:
        file._file = Slow(file._file)  # type: ignore[assignment]
        assert file.write(b"more than three") == 15
    assert (tmp_path / "file").read_bytes() == b"more than three"


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


def fail_rename(monkeypatch: pytest.MonkeyPatch, number: int, *, once: bool = True) -> None:
    """Let the rename of that number fail, or that one and all after it."""
    renamed, seen = os.rename, 0

    def rename(old: Path, new: Path) -> None:
        nonlocal seen
        seen += 1
        if seen == number or (seen > number and not once):
            raise OSError(errno.EIO, "Input/output error")
        renamed(old, new)

    monkeypatch.setattr(os, "rename", rename)


def test_an_exchange_that_fails_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    exchange_by_renaming(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "new").exists()
    assert (tmp_path / "new" / "old").exists()
    fail_rename(monkeypatch, 2)
    with pytest.raises(OSError, match="Input/output"):
        exchange_by_renaming(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "new").exists()
    assert (tmp_path / "new" / "old").exists()


def test_an_exchange_that_was_broken_off_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    with monkeypatch.context() as patch:
        fail_rename(patch, 2, once=False)
        with pytest.raises(OSError, match="Input/output"):
            exchange_by_renaming(tmp_path / "new", tmp_path / "old")
    assert not (tmp_path / "old").exists()
    restore_exchanged(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "old").exists()


def test_what_an_undone_exchange_put_back_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old dataset comes back under its name first; it is not the next command's to replace."""
    for name in ("old", "new"):
        (tmp_path / f"{name}.txt").write_text(f"the {name} text")
    output = tmp_path / "set"
    tokpack.encode(tmp_path / "old.txt", output, tokenizer="byte")
    before = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    monkeypatch.setattr("tokpack.encoding.workspace.exchange_directories", exchange_by_renaming)
    partial = tmp_path / "set.partial"
    with monkeypatch.context() as patch:  # the process dies between the first rename and the second
        patch.setattr(Path, "rename", _die_at(Path.rename, partial / "dataset"))
        with pytest.raises(KeyboardInterrupt):
            tokpack.encode(tmp_path / "new.txt", output, tokenizer="byte", overwrite=True)
    assert not output.exists()
    with pytest.raises(UsageError, match="exists already"):
        tokpack.encode(tmp_path / "new.txt", output, tokenizer="byte")
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == before
    assert not partial.exists()


def _die_at(rename: Callable[..., Path], source: Path) -> Callable[..., Path]:
    def dying(path: Path, target: Path) -> Path:
        if path == source:
            raise KeyboardInterrupt
        return rename(path, target)

    return dying
