"""What the fault tests share: a folder on memory, and the count of what was proved."""

from __future__ import annotations

import gc
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # layer, scenarios, replay: modules of these tests alone

Proved = Callable[[str, int], None]


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder where syncing costs nothing: in memory, where the machine offers that."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="tokpack-", dir=shared if shared.is_dir() else None))
    yield folder.resolve()
    gc.collect()  # files that an interruption left open are closed here, not in the midst of another test
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def proved(record_property: Callable[[str, object], None]) -> Proved:
    """Tell the table at the end of the run how many cases of what were tried."""
    begun = time.monotonic()

    def tell(what: str, cases: int) -> None:
        record_property("proved", [what, cases, time.monotonic() - begun])

    return tell
