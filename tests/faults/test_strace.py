"""System calls of the real command fail, or kill it, from outside: the independent proof of `layer.py`."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from counts import scaled
from scenarios import OUTPUT, encode_scenario, snapshot

CALLS = ("write", "fsync", "ftruncate", "rename", "mkdir", "unlink", "unlinkat", "rmdir")
EFFECTS = ("error=ENOSPC", "error=EIO", "signal=SIGKILL")
COMMAND = [
    *(str(Path(sys.executable).with_name("tokpack")), "encode", "a.jsonl", "-t", "byte", "-j", "1", "-q"),
    *("--unit-bytes", "200", "--shard-bytes", "100", "--val-fraction", "0.2", "--on-error", "skip"),
    *("-o", OUTPUT),
]


def traced(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        "strace",
        "-f",
        "-o",
        str(folder / "trace"),
        "-e",
        f"trace={','.join(CALLS)}",
        *options,
        *COMMAND,
    ]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


@pytest.mark.parametrize("runs", [100, pytest.param(scaled(2_000), marks=pytest.mark.nightly)])
def test_system_calls_that_fail_or_kill(runs: int, memory: Path, proved) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    scenario, folder = encode_scenario("bin"), memory
    scenario.prepare(folder)
    whole = traced(folder)
    if "ptrace" in whole.stderr:
        pytest.skip("this machine lets no process trace another")
    assert whole.returncode == 0, whole.stderr
    expected = snapshot(folder / OUTPUT)
    counts = Counter(re.findall(r"^\d+\s+(\w+)\(", (folder / "trace").read_text(), re.MULTILINE))
    assert counts["write"] > 30
    assert counts["fsync"] > 20
    cases = [
        (call, effect, at, again)
        for call in CALLS
        for effect in EFFECTS
        for at in range(1, counts[call] + 1)
        for again in ("", "+")
        if not (again and "KILL" in effect)
        and not ("ENOSPC" in effect and call in ("unlink", "unlinkat", "rmdir"))
    ]
    random.Random(runs).shuffle(cases)
    for call, effect, at, again in cases[:runs]:
        shutil.rmtree(folder / OUTPUT, ignore_errors=True)
        shutil.rmtree(folder / f"{OUTPUT}.partial", ignore_errors=True)
        done = traced(folder, "-e", f"inject={call}:{effect}:when={at}{again}")
        label = f"{call}, {effect}, {at}{again}: exit {done.returncode}, {done.stderr}"
        assert "Traceback" not in done.stderr, label
        found = snapshot(folder / OUTPUT)
        assert found in ({}, expected), label
        if done.returncode == 0:
            assert found == expected, label
        else:
            assert done.returncode in ((-9, 137) if "KILL" in effect else (4,)), label
        if not found:
            scenario.act(folder)
            assert snapshot(folder / OUTPUT) == expected, label
    proved("strace runs", min(runs, len(cases)))
