"""Stopped anywhere and resumed, a run is the run that was never stopped, bit for bit."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tokpack.errors import LockedError, MismatchError, UsageError
from tokpack.train import checkpoint as checkpoint_module
from tokpack.train import loop as loop_module
from tokpack.train.checkpoint import Checkpoint, load_checkpoint
from tokpack.train.folder import RunFolder
from tokpack.train.loop import Outcome, train
from tokpack.train.runs import Run
from tokpack.train.signals import StopRequest

Start = Callable[..., Run]
Finish = Callable[..., Outcome]
Records = Callable[[Path], list[dict[str, Any]]]

STEPS = 50
# Dropout draws from torch's generator; packed rows count differently; two micro-batches to a step.
BITWISE = (
    f"train.max_iters={STEPS}",
    "model.dropout=0.1",
    "data.sampler=packed",
    "data.batch_size=2",
    "data.global_batch_size=4",
    "eval.every=7",
    "eval.batches=1",
    "sample.every=7",
    "optim.lr=1e-2",
)
_TIMES = {"time_s", "tokens_per_s", "step_ms", "mfu", "data_wait"}


def course(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Everything a run wrote down, but for how long things took."""
    return [{key: value for key, value in record.items() if key not in _TIMES} for record in records]


def assert_equal_bits(found: Checkpoint, expected: Checkpoint) -> None:
    for part in ("model", "optimizer", "rng"):
        ours, theirs = getattr(found, part), getattr(expected, part)
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert torch.equal(ours[name], tensor), f"{part}: {name}"
    ours, theirs = dict(found.state), dict(expected.state)
    for state in (ours, theirs):
        state["progress"] = state["progress"] | {"seconds": 0}
    assert ours == theirs


@pytest.fixture(scope="module")
def uninterrupted(
    open_small: Start, run_through: Finish, records: Records, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    torch.set_num_threads(1)
    run = open_small(*BITWISE, root=tmp_path_factory.mktemp("whole"))
    run_through(run)
    return load_checkpoint(run.folder.path), course(records(run.folder.path))


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.nightly)])
def test_resume_is_bitwise_at_every_step(
    start: Start, finish: Finish, records: Records, uninterrupted: Any, every: int
) -> None:
    """One run, stopped and resumed by itself after each of its steps."""
    expected, expected_course = uninterrupted
    assert {"loss", "validation_loss", "sample"} <= {key for record in expected_course for key in record}
    run = start(*BITWISE)
    for step in range(0, STEPS + 1, every):
        outcome = finish(run, at=step)
        assert (outcome.step, outcome.stopped_by) == (step, "SIGTERM")
        run = start(resume=run.folder.path)
        assert run.progress.step == step
    finish(run)
    assert_equal_bits(load_checkpoint(run.folder.path), expected)
    assert course(records(run.folder.path)) == expected_course


@pytest.mark.parametrize(
    "step", [1, 14, 33, *(pytest.param(n, marks=pytest.mark.nightly) for n in range(STEPS))]
)
def test_resume_once_is_bitwise(
    step: int, start: Start, finish: Finish, records: Records, uninterrupted: Any
) -> None:
    run = start(*BITWISE)
    finish(run, at=step)
    finish(start(resume=run.folder.path))
    assert_equal_bits(load_checkpoint(run.folder.path), uninterrupted[0])
    assert course(records(run.folder.path)) == uninterrupted[1]


def test_killed_run_goes_on_from_its_last_checkpoint(
    start: Start, finish: Finish, records: Records, uninterrupted: Any
) -> None:
    """Metrics written after the last checkpoint are dropped, then written again."""
    expected, expected_course = uninterrupted
    run = start(*BITWISE, "checkpoint.every=10")

    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        if run.progress.step == 26:
            raise Killed

    step = run.optimizers.step
    run.optimizers.step = lambda finite: (die(), step(finite))[1]  # type: ignore[method-assign,assignment]
    with pytest.raises(Killed):
        finish(run)
    resumed = start(resume=run.folder.path)
    assert resumed.progress.step == 21  # evaluated, and the best one, at 21
    assert records(run.folder.path)[-1]["step"] > 21
    finish(resumed)
    assert course(records(run.folder.path)) == expected_course
    found = load_checkpoint(run.folder.path)
    assert all(torch.equal(found.model[name], tensor) for name, tensor in expected.model.items())


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def in_warm_up(run: Run, monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    forward = run.module.forward

    def slow(*arguments: Any) -> Any:
        terminate()
        return forward(*arguments)

    run.module.forward = slow  # type: ignore[method-assign]


def in_evaluation(run: Run, monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    assert run.validation is not None
    sampler, fills = run.validation, iter(range(10**6))
    fill = sampler.fill

    def fill_and_stop(rows: Any, out: Any) -> None:
        fill(rows, out)
        if next(fills) == turn:
            terminate()

    monkeypatch.setattr(sampler, "fill", fill_and_stop)


def in_sampling(run: Run, monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    tokenizer, draws = run.tokenizer, iter(range(10**6))
    import tokpack.train.generate as generate_module

    draw = generate_module.draw

    def draw_and_stop(*arguments: Any) -> int:
        if next(draws) == turn:
            terminate()
        return draw(*arguments)

    monkeypatch.setattr(generate_module, "draw", draw_and_stop)
    assert tokenizer is run.tokenizer


def in_saving(run: Run, monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    snapshot, saves = run.snapshot, iter(range(10**6))

    def save_and_stop(self: Run) -> Checkpoint:
        if next(saves) == turn:
            terminate()
        return original(self)

    original = Run.snapshot
    assert snapshot is not None
    monkeypatch.setattr(Run, "snapshot", save_and_stop)


def in_data_wait(run: Run, monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    """The sampler hangs for good, as a file system may."""
    import threading

    sampler, fills = run.sampler, iter(range(10**6))
    fill = sampler.fill

    def hang(rows: Any, out: Any) -> None:
        if next(fills) == turn + 3:
            threading.Timer(0.05, terminate).start()
            threading.Event().wait()
        fill(rows, out)

    monkeypatch.setattr(sampler, "fill", hang)


def between_steps(run: Run, monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    clip, steps = loop_module.clip_gradients, iter(range(10**6))

    def clip_and_stop(*arguments: Any) -> Any:
        if next(steps) == turn * 3:
            terminate()
        return clip(*arguments)

    monkeypatch.setattr(loop_module, "clip_gradients", clip_and_stop)


PHASES = [in_warm_up, in_evaluation, in_sampling, in_saving, in_data_wait, between_steps]


def stop_in_phase(
    phase: Callable[..., None],
    turn: int,
    start: Start,
    finish: Finish,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: Any,
) -> None:
    run = start(*BITWISE, "eval.batches=2", "log.name=run")
    with monkeypatch.context() as patch:
        phase(run, patch, turn)
        outcome = finish(run)
    assert outcome.stopped_by == "SIGTERM"
    assert load_checkpoint(run.folder.path).step == outcome.step
    resumed = start(resume=run.folder.path)
    finish(resumed)
    assert resumed.progress.step == STEPS
    ours = load_checkpoint(run.folder.path)
    for name, tensor in uninterrupted[0].model.items():
        assert torch.equal(ours.model[name], tensor), name
    losses = [record["loss"] for record in course(records(run.folder.path)) if "loss" in record]
    assert losses == [record["loss"] for record in uninterrupted[1] if "loss" in record]


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
@pytest.mark.parametrize("turn", [0, 1])
def test_sigterm_saves_in_every_phase(
    phase: Callable[..., None],
    turn: int,
    start: Start,
    finish: Finish,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: Any,
) -> None:
    stop_in_phase(phase, turn, start, finish, records, monkeypatch, uninterrupted)


@pytest.mark.nightly
@pytest.mark.parametrize("phase", PHASES[1:], ids=lambda phase: phase.__name__)
@pytest.mark.parametrize("turn", range(2, 14))
def test_sigterm_saves_at_many_instants(
    phase: Callable[..., None],
    turn: int,
    start: Start,
    finish: Finish,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: Any,
) -> None:
    stop_in_phase(phase, turn, start, finish, records, monkeypatch, uninterrupted)


@pytest.mark.nightly
def test_sigterm_at_a_hundred_random_instants(start: Start, tmp_path: Path, uninterrupted: Any) -> None:
    """By the clock, not by the code: wherever the signal finds the run."""
    chance = np.random.default_rng(5)
    for number in range(100):
        root = tmp_path / str(number)
        run = start(*BITWISE, root=root)
        signal.setitimer(signal.ITIMER_REAL, 0)
        previous = signal.signal(signal.SIGALRM, lambda *_: terminate())
        try:
            with StopRequest() as stop:
                signal.setitimer(signal.ITIMER_REAL, float(chance.uniform(0.001, 1.0)))
                outcome = train(run, stop)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
            run.close()
        assert load_checkpoint(run.folder.path).step == outcome.step
        while outcome.stopped_by:
            resumed = start(resume=run.folder.path)
            with StopRequest() as stop:
                outcome = train(resumed, stop)
            resumed.close()
        assert_equal_bits(load_checkpoint(run.folder.path), uninterrupted[0])
        shutil.rmtree(root)


def test_second_interrupt_is_not_held_back() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.reason == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is not stop._receive


def test_another_run_is_refused(start: Start, finish: Finish) -> None:
    run = start()
    finish(run, at=2)
    path = run.folder.path
    for change, message in {
        "model.ffn_size=32": "model.ffn_size: 64 there, 32 here",
        "optim.name=muon": "optim.name: 'adamw' there, 'muon' here",
        "train.seed=3": "seed was 1337 and is 3",
        "data.batch_size=2": "global_batch_size was 4 and is 2",
        "data.sampler=packed": "sampler was 'random-block",
    }.items():
        extra = ("data.global_batch_size=0",) if "batch_size" in change else ()
        with pytest.raises(MismatchError, match=message):
            start(change, *extra, resume=path)
        RunFolder.open(path).take().release()  # not left in use
    assert start("train.max_iters=4", "optim.lr=1e-4", resume=path).progress.step == 2


def test_the_datasets_tokenizer_is_compared(
    start: Start, finish: Finish, dataset: Path, tmp_path: Path
) -> None:
    run = start()
    finish(run, at=2)
    other = tmp_path / "other"
    shutil.copytree(dataset, other)
    manifest = other / "manifest.json"
    fingerprint = run.facts["tokenizer_fingerprint"]
    manifest.write_bytes(manifest.read_bytes().replace(fingerprint.encode(), b"0" * 64))
    with pytest.raises(MismatchError, match="tokenizer was"):
        start(f"data.dataset='{other}'", resume=run.folder.path)


def test_a_folder_is_one_runs_at_a_time(start: Start, finish: Finish) -> None:
    run = start()
    with pytest.raises(LockedError, match="in use"):
        start(resume=run.folder.path)
    with pytest.raises(LockedError, match="in use"):
        start()
    finish(run)
    with pytest.raises(UsageError, match="continue it with --resume"):
        start()
    unnamed = start("log.name=''"), start("log.name=''")
    assert [each.folder.path.name for each in unnamed] == ["tokenized-model", "tokenized-model-2"]


def test_code_named_by_a_folder_is_not_loaded(start: Start, finish: Finish) -> None:
    from tokpack.train.layers import without_factory

    with pytest.raises(UsageError, match=r"--set model.factory=os:system"):
        without_factory({"model": {"factory": "os:system"}}, "", where=Path("runs/x"))
    assert checkpoint_module.load_checkpoint is load_checkpoint


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
def test_compiled_run_resumes_bitwise(start: Start, finish: Finish, records: Records, tmp_path: Path) -> None:
    options = (*BITWISE, "train.compile=on", "train.max_iters=12")
    whole = start(*options, root=tmp_path / "whole")
    finish(whole)
    run = start(*options)
    finish(run, at=8)
    finish(start(resume=run.folder.path))
    assert_equal_bits(load_checkpoint(run.folder.path), load_checkpoint(whole.folder.path))
    eager = start(*BITWISE, "model.dropout=0", "train.max_iters=12", root=tmp_path / "eager")
    compiled = start(*options, "model.dropout=0", root=tmp_path / "compiled")
    for each in (eager, compiled):
        finish(each)
    found, expected = (
        [record["loss"] for record in records(each.folder.path) if "loss" in record]
        for each in (compiled, eager)
    )
    assert found == pytest.approx(expected, rel=1e-4)
