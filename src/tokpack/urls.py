"""Inputs named by a URL: ``s3://``, ``gs://``, ``https://``, ``memory://`` and whatever fsspec knows.

A path without ``://`` is an ordinary file and needs nothing. fsspec, and the package that speaks to a
particular store (s3fs, gcsfs, …), are imported on first use and belong to the user's own installation.
Credentials are found where the store's own tools find them; tokpack neither reads nor stores any.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from tokpack.errors import StorageError, TokpackError, UsageError
from tokpack.network import spare_metadata_service

__all__ = [
    "collapsed_url",
    "expand",
    "input_size",
    "is_url",
    "open_filesystem",
    "open_input",
    "storage_errors",
]

# Two letters or more before the colon: C:\x is a path.
_URL = re.compile(r"[a-z][a-z0-9+.-]+(?:::[a-z][a-z0-9+.-]+)*://", re.IGNORECASE)
_COLLAPSED = re.compile(r"[a-z][a-z0-9+.-]+:/(?!/)")


def is_url(path: str) -> bool:
    """Tell a URL from a path of this machine."""
    return _URL.match(path) is not None


def collapsed_url(path: Path) -> str | None:
    """Return the URL that was taken for a path, which keeps one of its slashes only; None for a path."""
    found = _COLLAPSED.match(str(path))
    return None if found is None else f"{found[0]}/{str(path)[found.end() :]}"


@contextmanager
def storage_errors(path: str) -> Iterator[None]:
    """Turn what the operating system or a remote store raises into a StorageError that names ``path``."""
    try:
        yield
    except TokpackError:
        raise
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist; check the spelling") from error
    except OSError as error:
        raise StorageError(f"cannot access {path}: {_first_line(error)}") from error
    # Each store's client raises its own family of exceptions, which only it could name.
    except Exception as error:
        if not is_url(path):
            raise
        raise StorageError(
            f"cannot access {path}: {_first_line(error)}; check the address, the network and the credentials "
            "that the store's own tools use"
        ) from error


def open_filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec filesystem behind ``url`` and the path within it.

    Raises:
        UsageError: fsspec, or the package that speaks this protocol, is not installed.
    """
    protocol = url.partition("://")[0]
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(f"{url} needs fsspec; try: pip install tokpack[remote]") from error
    if protocol in ("s3", "s3a"):
        spare_metadata_service()
    try:
        with storage_errors(url):
            return cast("tuple[Any, str]", fsspec.core.url_to_fs(url))
    except StorageError as error:
        if isinstance(error.__cause__, ImportError):
            raise UsageError(f"{url}: {error.__cause__}; it is what speaks {protocol}://") from error
        if isinstance(error.__cause__, ValueError):
            raise UsageError(
                f"no filesystem for {protocol}:// ({error.__cause__}); check the address"
            ) from error
        raise


def open_input(path: str) -> BinaryIO:
    """Open a file or URL for reading; the result is seekable.

    Raises:
        StorageError: it does not exist or cannot be read.
    """
    with storage_errors(path):
        if not is_url(path):
            return cast(BinaryIO, Path(path).open("rb", buffering=0))
        filesystem, name = open_filesystem(path)
        return cast(BinaryIO, _RemoteFile(filesystem.open(name, "rb"), path))


class _RemoteFile(io.RawIOBase):
    """A file behind a URL, whose errors while reading are told like those of opening it."""

    def __init__(self, file: BinaryIO, url: str) -> None:
        self._file = file
        self._url = url

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether it can seek: yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, all that is left by default."""
        with storage_errors(self._url):
            return self._file.read(size)

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` and return how many bytes there were."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the position."""
        with storage_errors(self._url):
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def input_size(path: str) -> int:
    """Return the size of a file or URL in bytes.

    Raises:
        StorageError: it does not exist, cannot be read, or its size is not known before it is read.
    """
    with storage_errors(path):
        if not is_url(path):
            return Path(path).stat().st_size
        filesystem, name = open_filesystem(path)
        size = filesystem.size(name)
    if size is None:
        raise StorageError(f"{path} does not say how large it is; download it and give the file")
    return int(size)


def expand(url: str) -> list[str]:
    """Return the URLs of all files that a URL with ``*``, or one that names a folder, stands for, sorted."""
    with storage_errors(url):
        filesystem, name = open_filesystem(url)
        if any(sign in name for sign in "*?["):
            found = filesystem.glob(name)
        elif filesystem.isdir(name):
            found = filesystem.find(name)
        else:
            return [url]
        return sorted(filesystem.unstrip_protocol(entry) for entry in found)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
