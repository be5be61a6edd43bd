"""Checkpoints under kills, damage and hostile content."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tokpack.errors import DamagedError, StorageError
from tokpack.train.checkpoint import Checkpoint, Checkpoints, export_weights, load_checkpoint

#: Events of the interpreter that stand for something done to the file system.
_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.listdir"}


def made(step: int, size: int = 64) -> Checkpoint:
    value = torch.full((size,), float(step))
    return Checkpoint(step, {"w": value}, {"w/exp_avg": value}, {"torch": value.byte()}, {"step": step})


def check(run: Path) -> int:
    """Load `last`, see that it is of one piece, and return its step."""
    found = load_checkpoint(run)
    assert found.state == {"step": found.step}
    for tensors in (found.model, found.optimizer):
        assert all((tensor == found.step).all() for tensor in tensors.values())
    return found.step


def save_steps(run: Path, steps: range, size: int = 64) -> None:
    checkpoints = Checkpoints(run / "checkpoints", keep=2, background=False)
    for step in steps:
        checkpoints.save(made(step, size), best=step % 2 == 0)


def die_at(event_number: int, run: Path) -> int:
    """Save steps 2 to 4 in a child that is killed before file event ``event_number``; return its status."""
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event: str, _arguments: Any) -> None:
            nonlocal seen
            if event in _EVENTS:
                seen += 1
                if seen == event_number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        save_steps(run, range(2, 5))
        os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.nightly)])
def test_killed_before_every_file_event_last_loads(tmp_path: Path, stride: int, record_property: Any) -> None:
    begun, number, loaded, kills = time.monotonic(), 1 - stride, set(), -1
    while True:
        number += stride
        kills += 1  # the last one comes too late
        run = tmp_path / str(number)
        save_steps(run, range(1, 2))
        status = die_at(number, run)
        step = check(run)
        loaded.add(step)
        save_steps(run, range(step + 1, step + 3))  # and the run goes on
        assert check(run) == step + 2
        assert not [path.name for path in (run / "checkpoints").iterdir() if path.name.startswith(".")]
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    assert number > 40
    assert loaded == {1, 2, 3, 4}
    record_property("proved", ["kill -9 while a checkpoint is saved", kills, time.monotonic() - begun])


@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.nightly)])
def test_killed_at_random_times_last_loads(tmp_path: Path, kills: int, record_property: Any) -> None:
    begun = time.monotonic()
    chance = np.random.default_rng(11)
    save_steps(tmp_path, range(1, 2), size=200_000)
    last = 1
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            save_steps(tmp_path, range(last + 1, last + 10_000), size=200_000)
            os._exit(0)
        time.sleep(float(chance.uniform(0.005, 0.12)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        step = check(tmp_path)
        assert step >= last
        last = step
    save_steps(tmp_path, range(last + 1, last + 2), size=200_000)
    assert check(tmp_path) == last + 1
    record_property("proved", ["kill -9 while a checkpoint is saved", kills, time.monotonic() - begun])


def test_newest_are_kept_and_the_best(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2, background=True)
    for step in range(1, 8):
        checkpoints.save(made(step), best=step == 3)
    checkpoints.close()
    assert checkpoints.steps() == [3, 6, 7]
    assert load_checkpoint(tmp_path, "best").step == 3
    assert load_checkpoint(tmp_path, "6").step == 6
    with pytest.raises(StorageError, match=r"no checkpoint '5'; it has: last, best, 3, 6, 7"):
        load_checkpoint(tmp_path, "5")
    with pytest.raises(StorageError, match="no complete checkpoint"):
        load_checkpoint(tmp_path / "nothing")


def test_training_may_change_tensors_while_they_are_written(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=9, background=True)
    weight = torch.zeros(2_000_000)
    for step in range(1, 5):
        weight.fill_(step)
        checkpoints.save(Checkpoint(step, {"w": weight}, {}, {}, {"step": step}))
        weight.fill_(-1.0)
    checkpoints.close()
    for step in range(1, 5):
        assert (load_checkpoint(tmp_path, str(step)).model["w"] == step).all()


def test_a_full_disk_is_named_and_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2, background=True)
    checkpoints.save(made(1))
    checkpoints.wait()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tokpack.train.checkpoint.save_file", full)
    checkpoints.save(made(2))
    with pytest.raises(StorageError, match=r"No space left.*earlier checkpoints are untouched"):
        checkpoints.close()
    assert check(tmp_path) == 1


class Payload:
    """Unpickling this would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.mark),))


def damage_pickle(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Payload(folder / "ran")))


def damage_bit(folder: Path) -> None:
    content = bytearray((folder / "optimizer.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "optimizer.safetensors").write_bytes(content)


def damage_truncate(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 100)


def damage_missing(folder: Path) -> None:
    (folder / "rng.safetensors").unlink()


def damage_link(folder: Path) -> None:
    content = (folder / "rng.safetensors").read_bytes()
    (folder / "elsewhere").write_bytes(content)
    (folder / "rng.safetensors").unlink()
    (folder / "rng.safetensors").symlink_to(folder / "elsewhere")


def damage_index(folder: Path) -> None:
    (folder / "checkpoint.json").write_text("[" * 100_000)


def damage_index_names(folder: Path) -> None:
    index = json.loads((folder / "checkpoint.json").read_text())
    index["files"] = {"../../../etc/passwd": {"size_bytes": 1, "sha256": ""}}
    (folder / "checkpoint.json").write_text(json.dumps(index))


def damage_resealed_pickle(folder: Path) -> None:
    """Even where all sums are right, a pickle is no safetensors file."""
    import hashlib

    damage_pickle(folder)
    content = (folder / "model.safetensors").read_bytes()
    index = json.loads((folder / "checkpoint.json").read_text())
    index["files"]["model.safetensors"] = {
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (folder / "checkpoint.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    "damage",
    [
        damage_pickle, damage_bit, damage_truncate, damage_missing, damage_link, damage_index,
        damage_index_names, damage_resealed_pickle,
    ],
    ids=lambda damage: damage.__name__,
)  # fmt: skip
def test_damage_is_refused_and_nothing_runs(tmp_path: Path, damage: Any) -> None:
    save_steps(tmp_path, range(1, 2))
    folder = tmp_path / "checkpoints" / "step-00000001"
    damage(folder)
    with pytest.raises(DamagedError, match=r"step-00000001"):
        load_checkpoint(tmp_path)
    assert not (folder / "ran").exists()


def test_export_needs_no_trust(tmp_path: Path) -> None:
    export_weights({"w": torch.ones(3)}, tmp_path / "sub" / "best_model_params.pt")
    loaded = torch.load(tmp_path / "sub" / "best_model_params.pt", weights_only=True)
    assert torch.equal(loaded["w"], torch.ones(3))
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["best_model_params.pt"]
