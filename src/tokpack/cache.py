"""What is costly to find out and the same every time, kept between runs in a folder of the user's.

Nothing depends on it: what is missing, damaged or cannot be written is found out again. Names of entries must
hold all that an entry depends on, so that none ever goes stale; whoever reads one checks what is in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["cache_folder", "cache_key", "cached_folder", "discard"]

VARIABLE = "TOKPACK_CACHE_DIR"


def cache_folder() -> Path | None:
    """Return the folder: ``TOKPACK_CACHE_DIR``, else ``tokpack`` where this system keeps caches.

    None where the variable is set to nothing, or the user has no home.
    """
    if (named := os.environ.get(VARIABLE)) is not None:
        return Path(named) if named else None
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "tokpack"
    try:
        return Path.home() / ".cache" / "tokpack"
    except RuntimeError:
        return None


def cache_key(*parts: str) -> str:
    """Return a name for an entry that depends on ``parts``."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]


def cached_folder(kind: str, key: str, *, write: Callable[[Path], object] | None = None) -> Path | None:
    """Return the entry's folder if it is there; with ``write``, have it filled first where it is not.

    An entry appears whole, by one rename. None where there is none and none can be made.
    """
    if (root := cache_folder()) is None:
        return None
    entry = root / kind / key
    if write is None or entry.is_dir():
        return entry if entry.is_dir() else None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        filling = Path(tempfile.mkdtemp(prefix=".new-", dir=entry.parent))
    except OSError:
        return None
    try:
        write(filling)
        filling.rename(entry)
    except OSError:  # no space, or another process was quicker
        shutil.rmtree(filling, ignore_errors=True)
    return entry if entry.is_dir() else None


def discard(entry: Path) -> None:
    """Remove an entry that turned out to be damaged."""
    with suppress(OSError):
        shutil.rmtree(entry)
