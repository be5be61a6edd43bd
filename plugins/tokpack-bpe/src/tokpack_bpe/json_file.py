"""Reading small files that may be anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from tokpack.errors import DamagedError, StorageError

__all__ = ["decode_object", "read_bytes", "read_object"]

_MAX_BYTES = 1 << 28  # no vocabulary is larger


def read_bytes(path: Path) -> bytes:
    """Return the content of ``path``. Raises StorageError, or DamagedError where it is too large."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; check the file") from error
    if len(content) > _MAX_BYTES:
        raise DamagedError(f"{path} has more than {_MAX_BYTES:,} bytes and is no vocabulary; check the file")
    return content


def decode_object(content: bytes, origin: str) -> dict[str, Any]:
    """Decode a JSON object. Raises DamagedError where ``content`` is something else."""
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise DamagedError(f"{origin} is not valid JSON ({error}); is the file whole?") from None
    if not isinstance(value, dict):
        raise DamagedError(
            f"{origin} holds a {type(value).__name__}, not a JSON object; is it the right file?"
        )
    return value


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from ``path``."""
    return decode_object(read_bytes(path), str(path))
