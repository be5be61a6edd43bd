"""The power goes at any operation: what is found is nothing, everything, or continued to the same bytes."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from counts import scaled
from layer import Operation
from replay import Disk, Tree, crash_states
from scenarios import (
    OUTPUT,
    Scenario,
    convert_scenario,
    encode_scenario,
    pack_scenario,
    record,
    resume_scenario,
    snapshot,
    stdin_scenario,
)

from tokpack.errors import TokpackError
from tokpack.plugins import discover

# Of a hundred states, how many are of this kind of work.
SHARES = [
    (encode_scenario("bin"), 30),
    (encode_scenario("npy"), 10),
    (encode_scenario("jsonl"), 5),
    (encode_scenario("parquet"), 5),
    (encode_scenario("bin", documents=30, shard_bytes=None), 10),
    (resume_scenario("bin"), 15),
    (encode_scenario("bin", overwrite=True), 10),
    (stdin_scenario(), 5),
    (convert_scenario("npy"), 5),
    (pack_scenario("npy"), 5),
]
SHOWN = 30


def read_tree(folder: Path) -> Tree:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def write_tree(folder: Path, tree: Tree) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    for path, content in tree.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


def judge(
    scenario: Scenario, folder: Path, before: dict[str, bytes], expected: dict[str, bytes], ended: bool
) -> str | None:
    found = snapshot(folder / OUTPUT)
    if ended and found != expected:
        return "success was claimed, and the dataset is not there"
    if found not in ({}, before, expected):
        return f"something incomplete stands under the final name: {sorted(found)}"
    if scenario.replaces and not found:
        return "the old dataset is gone, the new one is not there"
    if found == expected:
        return None
    try:
        scenario.act(folder)
    except TokpackError as stuck:
        return f"does not continue: {stuck}"
    return None if snapshot(folder / OUTPUT) == expected else "continued, it came to other bytes"


def check_power_loss(scenario: Scenario, memory: Path, states: int) -> int:
    if scenario.name.split()[1] not in {*discover().formats, "stdin"}:
        pytest.skip(f"{scenario.name}: the format is not installed")
    folder = memory / "case"
    folder.mkdir()
    scenario.prepare(folder)
    start, before = read_tree(folder), snapshot(folder / OUTPUT)
    log = record(scenario, folder)
    expected = snapshot(folder / OUTPUT)
    if scenario.uninterrupted:
        assert expected == scenario.uninterrupted
    tried, wrong = 0, []
    # When the command has ended, what it has made must last: the last states are of a power cut after that.
    ends = len(log)
    for done, tree in crash_states(str(folder), start, log, states, random.Random(states), {ends}):
        write_tree(folder, tree)
        problem = judge(scenario, folder, before, expected, done == ends)
        if problem is not None:
            last = log[done - 1]
            wrong.append(f"after {done}, {last.kind} {last.path.removeprefix(str(folder))}: {problem}")
        tried += 1
    assert not wrong, f"{len(wrong)} of {tried}:\n" + "\n".join(wrong[:SHOWN])
    assert tried > states // 3
    return tried


@pytest.mark.parametrize(
    "states", [5_100, pytest.param(scaled(200_000), marks=[pytest.mark.nightly, pytest.mark.timeout(0)])]
)
@pytest.mark.parametrize(("scenario", "share"), SHARES, ids=lambda value: getattr(value, "name", None))
def test_the_power_goes(scenario: Scenario, share: int, states: int, memory: Path, proved) -> None:
    proved("states after a power cut", check_power_loss(scenario, memory, states * share // 100))


def test_the_model_itself() -> None:
    """Without a sync nothing is certain; with it, the content and the name are."""
    log = [
        Operation("mkdir", "/d/a"),
        Operation("create", "/d/a/new"),
        Operation("write", "/d/a/new", data=b"content"),
        Operation("rename", "/d/a/new", "/d/a/final"),
    ]

    def outcomes(operations: list[Operation]) -> set[tuple[tuple[str, bytes | None], ...]]:
        disk = Disk("/d", {})
        for operation in operations:
            disk.apply(operation)
        return {tuple(sorted(disk.after_power_loss(random.Random(n)).items())) for n in range(300)}

    careless = outcomes(log)
    assert () in careless
    assert (("a", None), ("a/final", b"")) in careless
    assert (("a", None), ("a/final", b"content")) in careless
    assert (("a", None), ("a/final", bytes(7))) in careless
    assert len(careless) > 20
    careful = [
        *log[:3],
        Operation("sync", "/d/a/new"),
        log[3],
        Operation("sync", "/d/a"),
        Operation("sync", "/d"),
    ]
    assert outcomes(careful) == {(("a", None), ("a/final", b"content"))}
