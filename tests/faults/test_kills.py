"""SIGKILL at any instant: of the process, of all of its group, of one worker, and again while it resumes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from counts import scaled
from scenarios import (
    OUTPUT,
    Scenario,
    convert_scenario,
    encode_scenario,
    pack_scenario,
    run_forked,
    snapshot,
)

from tokpack.errors import IncompleteError
from tokpack.plugins import discover

IN_A_ROW = 3
PATIENCE_S = 10.0
SCENARIOS = [
    *(encode_scenario(name, documents=60, shard_bytes=900) for name in ("bin", "npy", "jsonl")),
    *(encode_scenario(name) for name in ("parquet", "arrow", "megatron")),
    convert_scenario("npy"),
    pack_scenario("npy"),
]
PARALLEL = encode_scenario("bin", documents=60, shard_bytes=900, workers=2)


def start(act: Callable[[], object]) -> int:
    """Run ``act`` in a forked child, the leader of a group of its own; return its id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setpgid(0, 0)
            act()
            status = 0
        except IncompleteError:
            status = IncompleteError.exit_code
        finally:
            os._exit(status)
    return pid


def seconds(scenario: Scenario, folder: Path) -> float:
    begun = time.monotonic()
    assert run_forked(lambda: scenario.act(folder)) == 0
    return time.monotonic() - begun


def kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:  # it has not yet become a leader
        os.kill(pid, signal.SIGKILL)


def kill_worker(pid: int) -> None:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return
    for child in children[:1]:
        try:
            os.kill(int(child), signal.SIGKILL)
        except ProcessLookupError:
            return


def wait(pid: int) -> int:
    """Wait for a process, but not for ever; return how it ended."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if (ended := os.waitpid(pid, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(ended[1])
        time.sleep(0.002)
    kill_group(pid)
    os.waitpid(pid, 0)
    raise AssertionError(f"still running {PATIENCE_S:.0f} s after it was to end")


def check_kills(scenario: Scenario, memory: Path, rounds: int, kill: Callable[[int], None]) -> int:
    """Kill and continue until ``rounds`` kills have hit; return how many did."""
    if scenario.name.split()[1] not in discover().formats:
        pytest.skip(f"{scenario.name}: the format is not installed")
    template, folder = memory / "template", memory / "case"
    template.mkdir()
    scenario.prepare(template)
    shutil.copytree(template, folder)
    longest = max(seconds(scenario, folder), 0.01)
    expected = snapshot(folder / OUTPUT)
    rng = random.Random(rounds)
    killed = attempts = 0
    while killed < rounds:
        attempts += 1
        assert attempts < 20 * rounds + 100, "the kills come too late"
        shutil.rmtree(folder)
        shutil.copytree(template, folder)
        for _ in range(rng.randrange(1, IN_A_ROW + 1)):
            pid = start(lambda: scenario.act(folder))
            time.sleep(longest * rng.random())
            kill(pid)
            code = wait(pid)
            assert code in (0, -signal.SIGKILL, IncompleteError.exit_code), (
                f"{scenario.name}: ended with {code}"
            )
            killed += code != 0
            found = snapshot(folder / OUTPUT)
            assert found in ({}, expected), f"{scenario.name}: something incomplete stands there"
            assert code or found
            if found:  # it may also be killed after its commit
                break
        if not (folder / OUTPUT).exists():
            assert run_forked(lambda: scenario.act(folder)) == 0
        assert snapshot(folder / OUTPUT) == expected, f"{scenario.name}: it came to other bytes"
    return killed


ROUNDS = [21, pytest.param(scaled(450), marks=[pytest.mark.nightly, pytest.mark.timeout(0)])]


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_process_is_killed(scenario: Scenario, rounds: int, memory: Path, proved) -> None:
    kill = lambda pid: os.kill(pid, signal.SIGKILL)  # noqa: E731
    proved("kill -9, then the same bytes", check_kills(scenario, memory, rounds, kill))


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("kill", [kill_group, kill_worker], ids=["group", "worker"])
def test_workers_are_killed(kill: Callable[[int], None], rounds: int, memory: Path, proved) -> None:
    scenario = replace(PARALLEL, name=f"encode bin {kill.__name__}")
    proved("kill -9, then the same bytes", check_kills(scenario, memory, rounds, kill))
