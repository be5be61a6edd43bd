"""Memory-mapped Arrow IPC data, as a file or as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from tokpack.errors import DamagedError, StorageError

__all__ = ["arrow_errors", "map_file"]


@contextmanager
def arrow_errors(path: str) -> Iterator[None]:
    """Turn what pyarrow raises on broken data into a DamagedError that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise StorageError(f"{path} does not exist; check the spelling") from error
    except (pa.ArrowException, OSError, OverflowError, ValueError, MemoryError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        if isinstance(error, OSError) and error.errno is not None:
            raise StorageError(f"cannot read {path}: {reason}") from error
        raise DamagedError(f"{path} is not Arrow data that can be read: {reason}") from error


def map_file(path: str | Path) -> pa.Buffer:
    """Map a whole file; nothing is read before it is looked at, and views keep the mapping alive.

    Raises:
        StorageError: it does not exist or cannot be read.
    """
    with arrow_errors(str(path)):
        if Path(path).stat().st_size == 0:
            return pa.py_buffer(b"")
        with pa.memory_map(str(path)) as file:
            return file.read_buffer()
