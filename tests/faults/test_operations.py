"""Every operation of every kind of work, with every fault: absent or resumable, then the same bytes."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import TypeAlias

import pytest
from layer import Fault, faults_of
from scenarios import (
    FORMATS,
    OUTPUT,
    Scenario,
    convert_scenario,
    encode_scenario,
    interrupted,
    pack_scenario,
    record,
    resume_scenario,
    snapshot,
    stdin_scenario,
)

from tokpack.errors import StorageError, TokpackError
from tokpack.plugins import discover

# What was interrupted leaves files open, whose buffers the collector then fails to write.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

State: TypeAlias = dict[str, bytes]
SHOWN = 15

CASES = [
    *(make(name) for make in (encode_scenario, resume_scenario, convert_scenario) for name in FORMATS),
    *(pack_scenario(name) for name in ("npy", "parquet", "arrow")),
    stdin_scenario(),
    encode_scenario("bin", overwrite=True),
]
LARGER = [
    encode_scenario(name, documents=documents, shard_bytes=size)
    for name in FORMATS
    for documents, size in ((60, 120), (120, 900), (120, None))
]


def judge(scenario: Scenario, folder: Path, fault: Fault, before: State, expected: State) -> str | None:
    """Interrupt and continue; return what went wrong."""
    error, crashed = interrupted(scenario, folder, fault)
    found = snapshot(folder / OUTPUT)
    if found not in ({}, before, expected):
        return "something incomplete stands under the final name"
    if scenario.replaces and not found:
        return "the old dataset is gone, the new one is not there"
    if error is not None:
        if not isinstance(error, StorageError):
            return f"raised {error!r}"
        if str(folder) not in str(error) or (
            fault.error == errno.ENOSPC and "free some space" not in str(error)
        ):
            return f"the message does not help: {error}"
    elif not crashed and found != expected:
        return "success was claimed"
    if found == expected:
        return None
    try:
        scenario.act(folder)
    except TokpackError as stuck:
        return f"does not continue: {stuck!r}"
    if snapshot(folder / OUTPUT) != expected:
        return "continued, it came to other bytes"
    if (folder / f"{OUTPUT}.partial").exists():
        return "unfinished work was left behind"
    return None


def check_faults(scenario: Scenario, memory: Path, *, every: bool) -> int:
    """Try faults at every operation; return how many were tried."""
    if scenario.name.split()[1] not in {*discover().formats, "stdin"}:
        pytest.skip(f"{scenario.name}: the format is not installed")
    template, folder = memory / "template", memory / "case"
    template.mkdir()
    scenario.prepare(template)
    before = snapshot(template / OUTPUT)
    shutil.copytree(template, folder)
    log = record(scenario, folder)
    expected = snapshot(folder / OUTPUT)
    assert expected != before
    if scenario.uninterrupted:
        assert expected == scenario.uninterrupted, "without a fault, it came to other bytes than in one go"
    assert len(log) > 20
    tried, wrong = 0, []
    for fault in faults_of(log, every=every):
        shutil.rmtree(folder)
        shutil.copytree(template, folder)
        if (problem := judge(scenario, folder, fault, before, expected)) is not None:
            operation = log[fault.at]
            wrong.append(f"{fault}, {operation.kind} {operation.path.removeprefix(str(folder))}: {problem}")
        tried += 1
    assert not wrong, f"{len(wrong)} of {tried}:\n" + "\n".join(wrong[:SHOWN])
    return tried


@pytest.mark.parametrize("scenario", CASES, ids=lambda scenario: scenario.name)
def test_a_fault_at_every_operation(scenario: Scenario, memory: Path, proved) -> None:
    proved("faults at operations", check_faults(scenario, memory, every=False))


@pytest.mark.nightly
@pytest.mark.parametrize("scenario", [*CASES, *LARGER], ids=lambda scenario: scenario.name)
def test_every_fault_at_every_operation(scenario: Scenario, memory: Path, proved) -> None:
    proved("faults at operations", check_faults(scenario, memory, every=True))
