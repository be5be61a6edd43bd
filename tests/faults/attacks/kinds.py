"""Links, pipes, devices and folders in the place of files."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from attacks.case import Attack

_WAIT_S = 0.05


def link(target: str, path: Path) -> None:
    content = (path / target).read_bytes()
    (path.parent / "secret").write_bytes(content)  # of the same size, so that only its kind gives it away
    (path / target).unlink()
    (path / target).symlink_to(path.parent / "secret")


def pipe(target: str, path: Path) -> None:
    (path / target).unlink()
    os.mkfifo(path / target)


def device(target: str, path: Path) -> None:
    (path / target).unlink()
    (path / target).symlink_to("/dev/zero")


def folder(target: str, path: Path) -> None:
    (path / target).unlink()
    (path / target).mkdir()
    (path / target / "more").write_bytes(b"x")


def follows(target: str, path: Path) -> bool:
    """What lies elsewhere is read as if it were the dataset's own."""
    return (path / target).resolve() == path.parent / "secret" and bool((path / target).read_bytes())


def waits(target: str, path: Path) -> bool:
    """Opening a pipe waits until somebody writes, which nobody ever does."""
    reader = threading.Thread(target=(path / target).read_bytes, daemon=True)
    reader.start()
    reader.join(_WAIT_S)
    waited = reader.is_alive()
    os.close(os.open(path / target, os.O_WRONLY))  # here it is done, so that the thread ends
    reader.join()
    return waited


def endless(target: str, path: Path) -> bool:
    """A device gives as much as one asks for, whatever its size says."""
    with (path / target).open("rb") as file:
        return (path / target).stat().st_size == 0 and len(file.read(1 << 20)) == 1 << 20


def taken_along(target: str, path: Path) -> bool:
    """Whoever copies a folder copies what does not belong to it."""
    copy = path.parent / "copy"
    shutil.copytree(path, copy)
    found = (copy / target / "more").exists()
    shutil.rmtree(copy)
    return found


_STEP = "checkpoints/step-00000001/"
_PLACES = {
    "bin": (
        "manifest.json",
        "train-00000.bin",
        "train-00000.offsets.npy",
        "tokenizer/byte.txt",
        "SHA256SUMS",
    ),
    "checkpoint": (f"{_STEP}model.safetensors", f"{_STEP}state.json", f"{_STEP}checkpoint.json"),
    "tokenizer": ("tokenizer.json",),
}


def _attacks() -> Iterator[Attack]:
    for good, targets in _PLACES.items():
        for target in targets:
            own = good == "tokenizer"  # a folder that the user names: its files may be links, as in a cache
            for make, victim in ((link, follows), (pipe, waits), (device, endless), (folder, taken_along)):
                yield Attack(
                    f"{good}, {target}: {make.__name__}",
                    good,
                    partial(make, target),
                    partial(victim, target),
                    harmless=own and make is link,
                )


ATTACKS = list(_attacks())
