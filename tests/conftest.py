"""What all tests of the core share: the real command, run as a person would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("tokpack")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tokpack(tmp_path: Path) -> Run:
    """Run `tokpack ARGS` in the test's own folder; standard input is empty unless given."""

    def run(
        *args: object,
        input: str | bytes | None = None,  # noqa: A002 (as subprocess.run calls it)
        timeout: float = 120,
        **env: str,
    ) -> subprocess.CompletedProcess[str]:
        data = input.encode() if isinstance(input, str) else input
        stdin = {"input": data} if data is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(
            [str(COMMAND), *map(str, args)],
            cwd=tmp_path,
            capture_output=True,
            timeout=timeout,
            env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"} | env,
            check=False,
            **stdin,
        )
        result = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )
        assert "Traceback" not in result.stderr, result.stderr
        return result

    return run
