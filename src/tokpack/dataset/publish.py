"""Writing files so that a name exists only when its content is complete and on disk.

temp name → write → fsync → rename → fsync of the folder. All dataset, tokenizer and checkpoint files of
tokpack are written through this module, so a fault anywhere shows here.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

from tokpack.dataset.manifest import FileInfo
from tokpack.errors import LockedError, StorageError

__all__ = [
    "DirectoryLock",
    "HashingFile",
    "exchange_by_renaming",
    "exchange_directories",
    "hash_file",
    "publish",
    "restore_exchanged",
    "sync_directory",
    "write_file",
]

_READ_BYTES = 1 << 20
_WRITEBACK_BYTES = 1 << 24
_LOCK_ATTEMPTS = 100
_THREADS = threading.Lock()


class HashingFile:
    """A binary file that is hashed while it is written; what formats write into.

    Writing at the end is the rule; a writer that goes back (``.npy`` completes its header) makes the hash be
    taken from the file once more when it is complete.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb+", buffering=0)
        self._hash = hashlib.sha256()
        self._end = self._begun = 0
        self._rewritten = False
        self.path = path

    def write(self, data: Any) -> int:
        """Write all of ``data`` (any buffer) and return its size in bytes."""
        view = memoryview(data).cast("B")
        if (position := self._file.tell()) != self._end:
            self._rewritten = True
        else:
            self._hash.update(view)
        written = 0
        while written < len(view):  # a raw file may write less than it was given
            written += self._file.write(view[written:]) or 0
        self._end = max(self._end, position + written)
        self._begin_writeback()
        return written

    def _begin_writeback(self) -> None:
        """Have the disk begin with what is here, so that ``sync`` need not wait for all of it at the end."""
        if self._end - self._begun >= _WRITEBACK_BYTES and hasattr(os, "posix_fadvise"):
            # Pages that are not on disk yet are sent there, and stay in memory.
            os.posix_fadvise(
                self._file.fileno(), self._begun, self._end - self._begun, os.POSIX_FADV_DONTNEED
            )
            self._begun = self._end

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes at the position."""
        return self._file.read(size) or b""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def flush(self) -> None:
        """Nothing is buffered."""

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def writable(self) -> bool:
        """Whether it can be written: yes."""
        return True

    def seekable(self) -> bool:
        """Whether it can seek: yes."""
        return True

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._file.closed

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def sync(self) -> None:
        """Wait until all content is on disk. A failure is final: the pages may be gone."""
        os.fsync(self._file.fileno())

    def info(self, name: str) -> FileInfo:
        """Return size and SHA-256 of the complete content."""
        digest = hash_file(self.path) if self._rewritten else self._hash.hexdigest()
        return FileInfo(name=name, size_bytes=self._end, sha256=digest)

    def as_binary(self) -> BinaryIO:
        """Return itself under the type that writers ask for."""
        return cast(BinaryIO, self)


def hash_file(path: Path) -> str:
    """Return the SHA-256 (hex) of a file, read in blocks."""
    digest = hashlib.sha256()
    buffer = bytearray(_READ_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            digest.update(view[:size])
    return digest.hexdigest()


def sync_directory(directory: Path) -> None:
    """Wait until the names in ``directory`` are on disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def publish(path: Path) -> Iterator[HashingFile]:
    """Write ``path`` whole or not at all: the name appears after the content is on disk.

    Raises:
        StorageError: the operating system refused; names the file, and on a full disk the remedy.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # left by a process that was killed; a lock keeps others out
        file = HashingFile(temporary)
        try:
            yield file
            file.sync()
        finally:
            file.close()
        temporary.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise storage_error(error, path) from error


def write_file(path: Path, content: bytes) -> FileInfo:
    """Publish a small file at once and return what the manifest says of it. Raises StorageError."""
    with publish(path) as file:
        file.write(content)
    return FileInfo(name=path.name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def storage_error(error: OSError, path: Path) -> StorageError:
    """Say what the operating system refused, where, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space and run the same command again; it continues"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "check the permissions of the folder"
    else:
        remedy = "nothing incomplete stands under its final name; run the same command again"
    return StorageError(f"cannot write {path}: {error.strerror or error}; {remedy}")


def exchange_directories(new: Path, old: Path) -> None:
    """Swap two directories: in one step where the kernel can, else by renaming them one after the other."""
    if sys.platform == "linux":
        import ctypes

        at_fdcwd, rename_exchange = -100, 2
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(at_fdcwd, bytes(new), at_fdcwd, bytes(old), rename_exchange) == 0:
            return
    exchange_by_renaming(new, old)


def exchange_by_renaming(new: Path, old: Path) -> None:
    """Swap two directories in three steps. A failure is undone at once, a crash by `restore_exchanged`."""
    aside = _aside(new)
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    aside.rename(new)


def restore_exchanged(new: Path, old: Path) -> None:
    """Put back what an exchange by renaming has set aside, if that was as far as it came."""
    if (aside := _aside(new)).exists() and not old.exists():
        aside.rename(old)


def _aside(new: Path) -> Path:
    return new.with_name(f"{new.name}.replaced")


class DirectoryLock:
    """At most one process works in a directory; the lock dies with its process.

    A POSIX record lock, which workers do not inherit: one that outlives its parent cannot keep it. Within a
    process such a lock excludes nobody, and ends when any other file object of it is closed; so threads are
    kept apart by a set of what is held here.
    """

    _held: ClassVar[set[Path]] = set()

    def __init__(self, directory: Path) -> None:
        self._path = directory.absolute() / "lock"
        self._file: Any = None

    def acquire(self) -> None:
        """Take the lock at once, making its directory. Raises LockedError naming the owner, StorageError."""
        with _THREADS:
            if self._path in self._held:
                raise self._locked(f"process {os.getpid()}, which is this one")
            self._held.add(self._path)
        try:
            for _ in range(_LOCK_ATTEMPTS):
                if self._take():
                    return
            raise self._locked("others that come and go")
        except BaseException as error:
            self._held.discard(self._path)
            if isinstance(error, OSError):
                raise storage_error(error, self._path) from error
            raise

    def _take(self) -> bool:
        """Take the lock; False if its owner left at this very moment, removing file and directory."""
        import fcntl  # not on every platform; only encoding needs it

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("ab+", buffering=0)
        except FileNotFoundError:
            return False
        with ExitStack() as opened:
            opened.callback(file.close)
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # What was opened just before the owner removed it locks nothing.
                if not os.path.samestat(os.fstat(file.fileno()), self._path.stat()):
                    return False
            except FileNotFoundError:
                return False
            except BlockingIOError:
                file.seek(0)
                owner = file.read(200).decode(errors="replace").strip() or "another process"
                raise self._locked(owner) from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}\n".encode())
            opened.pop_all()
        self._file = file
        return True

    def _locked(self, owner: str) -> LockedError:
        return LockedError(
            f"{self._path.parent} is in use by {owner}; wait for it, or choose another --output"
        )

    def release(self) -> None:
        """Give the lock back; remove its file, and the directory if nothing else is in it."""
        if self._file is None:
            return
        with suppress(OSError):  # a file that stays behind locks nothing
            self._path.unlink()
            self._path.parent.rmdir()
        with suppress(OSError):
            self._file.close()
        self._file = None
        self._held.discard(self._path)
