"""What all tests of the core share: the real command, run as a person would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# No test is judged by its time: a machine that is busy with other things is no fault.
settings.register_profile("tokpack", deadline=None)
settings.load_profile("tokpack")

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests of faults have tried: how many cases of what, and for how long."""
    totals: dict[str, tuple[int, float]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call":
                continue
            for name, value in report.user_properties:
                if name == "proved":
                    what, cases, seconds = value
                    before = totals.get(what, (0, 0.0))
                    totals[what] = before[0] + cases, before[1] + seconds
    if not totals:
        return
    terminalreporter.section("what was tried")
    for what, (cases, seconds) in sorted(totals.items()):
        terminalreporter.line(f"{what:<36}{cases:>12,}{seconds:>9.1f} s")
    if path := os.environ.get("TOKPACK_PROVED"):  # for tests/faults/write_counts.py
        rows = [[what, cases, round(seconds, 1)] for what, (cases, seconds) in sorted(totals.items())]
        Path(path).write_text(json.dumps(rows))
