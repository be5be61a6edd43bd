"""Checkpoints under the same faults as datasets: what was acknowledged is loaded, or something newer.

A native library writes the tensor files, which the layer cannot see; here Python writes the same bytes.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from counts import scaled
from layer import CRASHED, Fault, Layer, Operation, faults_of, interposed
from replay import crash_states
from scenarios import run_forked, snapshot
from test_power_loss import read_tree, write_tree

from tokpack.errors import StorageError

torch = pytest.importorskip("torch")

from safetensors.torch import save  # noqa: E402

from tokpack.train.checkpoint import Checkpoint, Checkpoints, load_checkpoint  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

STEPS = range(2, 5)
Done = Callable[[int], object]


@pytest.fixture(autouse=True)
def _python_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    def save_file(tensors: dict[str, torch.Tensor], path: Path) -> None:
        path.write_bytes(save(tensors))

    monkeypatch.setattr("tokpack.train.checkpoint.save_file", save_file)


def made(step: int) -> Checkpoint:
    value = torch.full((16,), float(step))
    return Checkpoint(step, {"w": value}, {"w/exp_avg": value}, {"torch": value.byte()}, {"step": step})


def save_steps(run: Path, steps: range, done: Done = lambda step: None) -> None:
    checkpoints = Checkpoints(run / "checkpoints", keep=2, background=False)
    for step in steps:
        checkpoints.save(made(step), best=step % 2 == 0)
        done(step)


def loaded(run: Path) -> int:
    """Load `last`, see that it is of one piece, and return its step; 0 where there is none."""
    if not list(run.glob("checkpoints/step-*")):
        with pytest.raises(StorageError, match="no complete checkpoint"):
            load_checkpoint(run)
        return 0
    found = load_checkpoint(run)
    assert found.state == {"step": found.step}
    assert all((tensor == found.step).all() for tensor in (found.model["w"], found.optimizer["w/exp_avg"]))
    load_checkpoint(run, "best")
    return found.step


def recorded(run: Path) -> tuple[list[Operation], dict[int, int]]:
    """Return the operations of a whole run, and how many were done when each step was acknowledged."""
    acknowledged: dict[int, int] = {}
    with interposed(run) as layer:
        save_steps(run, STEPS, lambda step: acknowledged.update({step: len(layer.log)}))
    return layer.log, acknowledged


def fails(run: Path, fault: Fault, layer: Layer) -> tuple[int, str | None]:
    """Save under a fault; return the last step acknowledged, and what is wrong with how it ended."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def act() -> None:
        save_steps(run, STEPS, lambda step: os.write(writing, bytes([step])))

    problem = None
    if fault.how in ("error", "short"):
        try:
            act()
        except StorageError as error:
            if str(run) not in str(error):
                problem = f"the message does not help: {error}"
        except Exception as error:
            problem = f"raised {error!r}"
    elif run_forked(act) not in (0, CRASHED):
        problem = "ended in another way"
    try:
        told = os.read(reading, 100)
    except BlockingIOError:
        told = b""
    os.close(reading)
    os.close(writing)
    return (told[-1] if told else 0), problem


def judge(run: Path, fault: Fault) -> str | None:
    before = loaded(run)
    with interposed(run, fault) as layer:
        acknowledged, problem = fails(run, fault, layer)
    if problem is not None:
        return problem
    step = loaded(run)
    if step < max(before, acknowledged):
        return f"step {max(before, acknowledged)} was there, {step} is loaded"
    save_steps(run, range(step + 1, step + 3))
    if loaded(run) != step + 2:
        return "it does not go on"
    left = [name for name in snapshot(run / "checkpoints") if name.startswith(".")]
    return f"left behind: {left}" if left else None


def begun(memory: Path, first: bool) -> Path:
    """A run without a checkpoint, or with its first."""
    run = memory / "run"
    run.mkdir()
    if not first:
        save_steps(run, range(1, 2))
    return run


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_a_fault_at_every_operation(first: bool, every: bool, memory: Path, proved) -> None:
    run, template = begun(memory, first), memory / "template"
    shutil.copytree(run, template)
    log, _ = recorded(run)
    assert len(log) > 60
    wrong, tried = [], 0
    for fault in faults_of(log, every=every):
        shutil.rmtree(run)
        shutil.copytree(template, run)
        if (problem := judge(run, fault)) is not None:
            operation = log[fault.at]
            wrong.append(f"{fault}, {operation.kind} {operation.path.removeprefix(str(run))}: {problem}")
        tried += 1
    assert not wrong, f"{len(wrong)} of {tried}:\n" + "\n".join(wrong[:15])
    proved("faults at operations", tried)


@pytest.mark.parametrize("states", [500, pytest.param(scaled(20_000), marks=pytest.mark.nightly)])
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_the_power_goes(states: int, first: bool, memory: Path, proved) -> None:
    run = begun(memory, first)
    before = read_tree(run)
    log, acknowledged = recorded(run)
    wrong, tried = [], 0
    promises = set(acknowledged.values())
    for done, tree in crash_states(str(run), before, log, states, random.Random(states), promises):
        write_tree(run, tree)
        last = max((step for step, at in acknowledged.items() if at <= done), default=0 if first else 1)
        try:
            if (step := loaded(run)) < last:
                wrong.append(f"after {done}: step {last} was acknowledged, {step} is loaded")
        except Exception as error:
            wrong.append(f"after {done}, {log[done - 1].kind} {log[done - 1].path[-40:]}: {error!r}")
        tried += 1
    assert not wrong, f"{len(wrong)} of {tried}:\n" + "\n".join(wrong[:15])
    assert tried > states // 3
    proved("states after a power cut", tried)
