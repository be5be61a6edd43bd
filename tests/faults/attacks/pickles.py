"""Pickles: opening one runs whatever it says."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from attacks.case import Attack, marked


class Payload:
    """Unpickling this makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


class Nested:
    """The same by way of ``exec``, inside of something that looks like data."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"import os; os.mkdir({str(self.mark)!r})",)


def dumped(guise: type, protocol: int, path: Path) -> bytes:
    return pickle.dumps({"tokens": [1, guise(path.parent / "ran")]}, protocol)


def load_pickle(target: str, path: Path) -> bool:
    with (path / target).open("rb") as file:
        pickle.load(file)
    return marked(path)


def put(target: str, guise: type, protocol: int, path: Path) -> None:
    """Put a pickle in the place of a file, and make whatever says sizes and hashes agree with it."""
    content = dumped(guise, protocol, path)
    (path / target).write_bytes(content)
    reseal(path, target, content)


def put_array(target: str, guise: type, protocol: int, path: Path) -> None:
    """An array of objects in NumPy's format, which ``np.load`` unpickles where it may."""
    array = np.array([guise(path.parent / "ran")], dtype=object)
    with (path / target).open("wb") as file:
        np.lib.format.write_array(file, array, allow_pickle=True)
    reseal(path, target, (path / target).read_bytes())


def load_array(target: str, path: Path) -> bool:
    np.load(path / target, allow_pickle=True)
    return marked(path)


def reseal(path: Path, target: str, content: bytes) -> None:
    found = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if (path / "manifest.json").exists():
        manifest = json.loads((path / "manifest.json").read_text())
        _replace(manifest, Path(target).name, found)
        (path / "manifest.json").write_text(canonical(manifest))
    index = path / Path(target).parent / "checkpoint.json"
    if index.exists() and index != path / target:
        values = json.loads(index.read_text())
        values["files"][Path(target).name] = found
        index.write_text(json.dumps(values))


def canonical(manifest: dict[str, Any]) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2).decode() + "\n"


def _replace(value: Any, name: str, found: dict[str, Any]) -> None:
    if isinstance(value, dict):
        if value.get("name") == name:
            value.update(found)
        for item in value.values():
            _replace(item, name, found)
    elif isinstance(value, list):
        for item in value:
            _replace(item, name, found)


_STEP = "checkpoints/step-00000001/"
_PLACES: dict[str, tuple[str, ...]] = {
    "bin": ("train-00000.offsets.npy", "units.jsonl"),
    "npy": ("train-00000.npy",),
    "jsonl": ("train-00000.jsonl",),
    "parquet": ("train-00000.parquet",),
    "arrow": ("train-00000.arrow",),
    "megatron": ("train-00000.idx",),
    "checkpoint": (
        *(f"{_STEP}{part}.safetensors" for part in ("model", "optimizer", "rng")),
        *(f"{_STEP}state.json", f"{_STEP}checkpoint.json", "checkpoints/best.json"),
    ),
    "tokenizer": ("tokenizer.json", "tokenizer_config.json"),
}


def _attacks() -> Iterator[Attack]:
    for good, targets in _PLACES.items():
        for target in targets:
            for guise, protocols in ((Payload, (0, 2, 5)), (Nested, (4,))):
                for protocol in protocols:
                    prepare: Callable[[Path], object] = partial(put, target, guise, protocol)
                    name = f"{good}, {target}: {guise.__name__.lower()} of protocol {protocol}"
                    yield Attack(name, good, prepare, partial(load_pickle, target))
    for good, target in (("npy", "train-00000.npy"), ("bin", "train-00000.offsets.npy")):
        for guise in (Payload, Nested):
            make = partial(put_array, target, guise, 3)
            name = f"{good}, {target}: objects, {guise.__name__.lower()}"
            yield Attack(name, good, make, partial(load_array, target))


ATTACKS = list(_attacks())
