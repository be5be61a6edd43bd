"""The folder with real tokenizers, texts and reference answers, which not every machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["shared_data"]


def shared_data() -> Path:
    """Return the folder ``shared/data``, or skip the test that asks for it.

    It is looked for in the folder that ``TOKPACK_SHARED`` names, then beside the repository root, upwards
    from the working directory.
    """
    here = Path.cwd()
    candidates = [parent / "shared" for parent in (here, *here.parents)]
    if (named := os.environ.get("TOKPACK_SHARED")) is not None:
        candidates = [Path(named)]
    for candidate in candidates:
        if (candidate / "data" / "expected.json").is_file():
            return candidate / "data"
    pytest.skip("no shared/data here (real tokenizers and texts); TOKPACK_SHARED may name the folder")
