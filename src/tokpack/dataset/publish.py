"""Writing files so that a name exists only when its content is complete and on disk.

temp name → write → fsync → rename → fsync of the folder. All dataset, tokenizer and checkpoint files of
tokpack are written through this module, so a fault anywhere shows here.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from tokpack.dataset.manifest import FileInfo
from tokpack.errors import LockedError, StorageError

__all__ = [
    "DirectoryLock",
    "HashingFile",
    "exchange_directories",
    "hash_file",
    "publish",
    "sync_directory",
    "write_file",
]

_READ_BYTES = 1 << 20


class HashingFile:
    """A binary file that is hashed while it is written; what formats write into.

    Writing at the end is the rule; a writer that goes back (``.npy`` completes its header) makes the hash be
    taken from the file once more when it is complete.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb+", buffering=0)
        self._hash = hashlib.sha256()
        self._end = 0
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
        return written

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
    aside = new.with_name(f"{new.name}.replaced")
    old.rename(aside)
    new.rename(old)
    aside.rename(new)


class DirectoryLock:
    """At most one process works in a directory; the lock dies with its process.

    A POSIX record lock, which workers do not inherit: one that outlives its parent cannot keep it.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        self._file: Any = None

    def acquire(self) -> None:
        """Take the lock at once. Raises LockedError naming the owner, StorageError."""
        import fcntl  # not on every platform; only encoding needs it

        try:
            self._file = self._path.open("a+")
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The owner removes the file as it leaves; what was opened just before that locks nothing.
            if not self._is_current():
                self._file.close()
                return self.acquire()
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read(200).strip() or "another process"
            self._file.close()
            raise LockedError(
                f"{self._path.parent} is in use by {owner}; wait for it, or choose another --output"
            ) from None
        except OSError as error:
            raise storage_error(error, self._path) from error
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        self._file.flush()
        return None

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None
