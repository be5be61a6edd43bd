"""Checkpoints: complete or not there, checked by SHA-256, and nothing in them is ever run.

A checkpoint is a directory ``step-00001000`` under ``checkpoints/``:

| file | content |
|---|---|
| `model.safetensors` | weights |
| `optimizer.safetensors` | moments and step counts, named ``PARAMETER/KEY`` |
| `rng.safetensors` | states of the random generators, as bytes |
| `state.json` | position in the data, counters, identity of model, data and tokenizer |
| `checkpoint.json` | format version, step, size and SHA-256 of every file above |

It is written under another name, made durable, then renamed; so the newest directory with a proper name is
`last`, without any pointer that could be wrong. `best.json` beside them names the best one.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tokpack.errors import DamagedError, MismatchError, StorageError
from tokpack.train.durable import sync, write_json

__all__ = ["Checkpoint", "Checkpoints", "compare_identity", "export_weights", "load_checkpoint"]

_VERSION = 1
_NAME = re.compile(r"step-(\d{8,})")
_TENSOR_FILES = ("model", "optimizer", "rng")
_MAX_JSON_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that a run continues from. ``state`` is plain JSON."""

    step: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    rng: Mapping[str, Tensor]
    state: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run: at most one being written, in a thread of its own."""

    def __init__(self, directory: Path, *, keep: int, background: bool, writes: bool = True) -> None:
        self.directory = directory
        self.keep = max(1, keep)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="tokpack-save") if background else None
        self._pending: Future[None] | None = None
        self._buffers: dict[str, Tensor] = {}
        if not writes:  # a rank that only takes part in gathering
            return
        try:
            directory.mkdir(parents=True, exist_ok=True)
            sync(directory.parent)
            for leftover in directory.glob(".*"):  # of a process that was killed while it wrote or deleted
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        except OSError as error:
            raise StorageError(
                f"cannot use {directory}: {error.strerror or error}; free some space or mend its "
                f"permissions, then continue with --resume {directory.parent}"
            ) from error

    def save(self, checkpoint: Checkpoint, *, best: bool = False) -> None:
        """Write ``checkpoint``; returns as soon as its tensors are copied.

        Raises:
            StorageError: this save, or the one before it, could not be written.
        """
        self.wait()
        if self._pool is None:
            self._write(checkpoint, best)
            return
        self._pending = self._pool.submit(self._write, self._copy(checkpoint), best)

    def wait(self) -> None:
        """Return when nothing is being written. Raises StorageError if the last save failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Finish what is being written and stop the thread."""
        try:
            self.wait()
        finally:
            if self._pool is not None:
                self._pool.shutdown()

    def steps(self) -> list[int]:
        """Return the steps that have a complete checkpoint, oldest first."""
        return _steps(self.directory)

    def best_step(self) -> int | None:
        """Return the step of the best checkpoint, if one was marked and is still there."""
        return _best_step(self.directory)

    def _copy(self, checkpoint: Checkpoint) -> Checkpoint:
        """Move tensors to host memory that training does not touch, in one go, waiting once."""
        parts: dict[str, dict[str, Tensor]] = {}
        for part in _TENSOR_FILES:
            tensors: Mapping[str, Tensor] = getattr(checkpoint, part)
            parts[part] = {name: self._host(f"{part}:{name}", tensor) for name, tensor in tensors.items()}
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return Checkpoint(checkpoint.step, state=checkpoint.state, **parts)

    def _host(self, key: str, tensor: Tensor) -> Tensor:
        kept = self._buffers.get(key)
        if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
            kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[key] = kept
        return kept.copy_(tensor, non_blocking=True)

    def _write(self, checkpoint: Checkpoint, best: bool) -> None:
        final = self.directory / f"step-{checkpoint.step:08d}"
        partial = self.directory / f".{final.name}.partial"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _write_files(checkpoint, partial)
            if final.exists():  # the same step again, after a resume: equal in content
                self._remove(final)
            partial.rename(final)
            sync(self.directory)
            if best:
                write_json(self.directory / "best.json", {"step": checkpoint.step})
            self._prune()
        except (OSError, SafetensorError) as error:
            raise StorageError(
                f"cannot write checkpoint {final}: {error}; earlier checkpoints are untouched. "
                f"Free some space, then continue with --resume {self.directory.parent}"
            ) from error

    def _prune(self) -> None:
        spared = {self.best_step(), *self.steps()[-self.keep :]}
        for step in self.steps():
            if step not in spared:
                self._remove(self.directory / f"step-{step:08d}")

    def _remove(self, path: Path) -> None:
        # Renamed first, and for good, so that a directory half deleted is never taken for a checkpoint.
        doomed = path.with_name(f".{path.name}.deleted")
        path.rename(doomed)
        sync(self.directory)
        shutil.rmtree(doomed)


def _write_files(checkpoint: Checkpoint, directory: Path) -> None:
    for part in _TENSOR_FILES:
        tensors: Mapping[str, Tensor] = getattr(checkpoint, part)
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(plain, directory / f"{part}.safetensors")
    write_json(directory / "state.json", checkpoint.state)
    files = {}
    for path in sorted(directory.iterdir()):
        sync(path)
        files[path.name] = {"size_bytes": path.stat().st_size, "sha256": _sha256(path)}
    index = {"version": _VERSION, "step": checkpoint.step, "files": files}
    write_json(directory / "checkpoint.json", index)
    sync(directory)


def load_checkpoint(run: Path, which: str = "last") -> Checkpoint:
    """Load ``last``, ``best`` or a step number of the run in ``run``, every byte checked.

    Raises:
        StorageError: there is none, or it cannot be read.
        DamagedError: a file is missing, truncated or altered.
    """
    number = _find(run, which)
    directory = run / "checkpoints" / f"step-{number:08d}"
    index = _read_json(directory / "checkpoint.json")
    try:
        version, step, files = index["version"], int(index["step"]), dict(index["files"])
        expected = {f"{part}.safetensors" for part in _TENSOR_FILES} | {"state.json"}
        sums = {name: (int(files[name]["size_bytes"]), str(files[name]["sha256"])) for name in expected}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedError(f"{directory / 'checkpoint.json'} is damaged: {error!r}; {_REMEDY}") from error
    if step != number:
        raise DamagedError(f"{directory / 'checkpoint.json'} is of step {step:,}; {_REMEDY}")
    if version != _VERSION:
        raise DamagedError(f"{directory} has format version {version}, this tokpack reads {_VERSION}")
    for name, (size, digest) in sums.items():
        _check(directory / name, size, digest)
    try:
        parts = {part: load_file(directory / f"{part}.safetensors") for part in _TENSOR_FILES}
    except (SafetensorError, OSError) as error:
        raise DamagedError(f"cannot read the tensors of {directory}: {error}; {_REMEDY}") from error
    return Checkpoint(step, state=_read_json(directory / "state.json"), **parts)


_REMEDY = "resume from an earlier checkpoint by removing this directory"


def _find(run: Path, which: str) -> int:
    directory = run / "checkpoints"
    steps = _steps(directory)
    if not steps:
        raise StorageError(f"{run} holds no complete checkpoint; was the run started?")
    if which == "last":
        return steps[-1]
    if which == "best":
        best = _best_step(directory)
        return steps[-1] if best is None else best
    if which.isdecimal() and int(which) in steps:
        return int(which)
    raise StorageError(f"{run} has no checkpoint {which!r}; it has: last, best, {', '.join(map(str, steps))}")


def _steps(directory: Path) -> list[int]:
    if not directory.is_dir():
        return []
    found = (_NAME.fullmatch(path.name) for path in directory.iterdir())
    return sorted(int(match[1]) for match in found if match)


def _best_step(directory: Path) -> int | None:
    path = directory / "best.json"
    if not path.is_file():
        return None
    step = _read_json(path).get("step")
    return step if isinstance(step, int) and (directory / f"step-{step:08d}").is_dir() else None


def _check(path: Path, size: int, digest: str) -> None:
    try:
        if path.is_symlink() or not path.is_file():
            raise DamagedError(f"{path} is missing; {_REMEDY}")
        if (found := path.stat().st_size) != size:
            raise DamagedError(f"{path} has {found:,} bytes instead of {size:,}; {_REMEDY}")
        if _sha256(path) != digest:
            raise DamagedError(f"{path} was altered: its SHA-256 differs; {_REMEDY}")
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def compare_identity(saved: Mapping[str, Any], current: Mapping[str, Any], *, where: Path) -> None:
    """Refuse to continue when what was saved is not what is there now.

    Raises:
        MismatchError: names every item that differs.
    """
    differing = [
        f"{name}: {saved.get(name)!r} there, {current.get(name)!r} here"
        for name in sorted({*saved, *current})
        if saved.get(name) != current.get(name)
    ]
    if differing:
        raise MismatchError(
            f"the checkpoint in {where} does not belong to this run ({'; '.join(differing)}); "
            "resume with the settings it was made with, or start another run"
        )


def export_weights(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write weights for ``torch.load(path, weights_only=True)``, complete or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, partial)
        sync(partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        raise StorageError(f"cannot write {path}: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, a link may lead anywhere
            raise DamagedError(f"{path} is not a regular file; {_REMEDY}")
        if status.st_size > _MAX_JSON_BYTES:
            raise DamagedError(f"{path} is larger than {_MAX_JSON_BYTES >> 20} MiB; {_REMEDY}")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing; {_REMEDY}") from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged: {error}; {_REMEDY}") from error
    if not isinstance(value, dict):
        raise DamagedError(f"{path} holds no object; {_REMEDY}")
    return value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
