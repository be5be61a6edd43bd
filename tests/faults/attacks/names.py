"""Names that lead out of the folder, in every place where a manifest or an index names a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from attacks.case import Attack
from attacks.pickles import canonical

SECRET = b"a secret of the machine"
#: ``{}`` stands for the secret's path seen from the root, without its first slash.
SPELLINGS = [
    "../secret", "./../secret", "x/../../secret", "tokenizer/../../secret", "..//secret", ".././secret",
    "/{}", "//{}", "/./{}", "tokenizer/../../../{name}/secret",
]  # fmt: skip


def _slots(manifest: dict[str, Any]) -> dict[str, Callable[[str], None]]:
    split = manifest["splits"]["train"]["shards"][0]
    return {
        "shard": partial(split["file"].__setitem__, "name"),
        "offsets": partial(split["offsets"].__setitem__, "name"),
        "extra": partial(manifest["extra"][0].__setitem__, "name"),
        "tokenizer": partial(manifest["tokenizer"]["files"][0].__setitem__, "name"),
    }


def _spelled(spelling: str, path: Path) -> str:
    secret = path.parent / "secret"
    return spelling.format(str(secret)[1:], name=path.parent.name)


def lead_out(slot: str, spelling: str, path: Path) -> None:
    (path.parent / "secret").write_bytes(SECRET)
    (path / "x").mkdir()
    manifest = json.loads((path / "manifest.json").read_text())
    _slots(manifest)[slot](_spelled(spelling, path))
    (path / "manifest.json").write_text(canonical(manifest))


def follow(slot: str, spelling: str, path: Path) -> bool:
    name = _spelled(spelling, path)
    assert name in (path / "manifest.json").read_text()
    return Path(os.path.join(path, name)).read_bytes() == SECRET  # noqa: PTH118 (as a naive program does)


def lead_checkpoint_out(spelling: str, path: Path) -> None:
    (path.parent / "secret").write_bytes(SECRET)
    (path / "checkpoints" / "step-00000001" / "x").mkdir()
    index = path / "checkpoints" / "step-00000001" / "checkpoint.json"
    values = json.loads(index.read_text())
    values["files"] = {spelling: values["files"]["model.safetensors"]}
    index.write_text(json.dumps(values))


def follow_checkpoint(spelling: str, path: Path) -> bool:
    folder = path / "checkpoints" / "step-00000001"
    (name,) = json.loads((folder / "checkpoint.json").read_text())["files"]
    return Path(os.path.join(folder, name)).read_bytes() == SECRET  # noqa: PTH118


def _attacks() -> Iterator[Attack]:
    for slot in ("shard", "offsets", "extra", "tokenizer"):
        for spelling in SPELLINGS:
            yield Attack(
                f"{slot} {spelling}",
                "bin",
                partial(lead_out, slot, spelling),
                partial(follow, slot, spelling),
            )
    for spelling in ("../../../secret", "./../../../secret", "x/../../../../secret"):
        yield Attack(
            f"checkpoint {spelling}",
            "checkpoint",
            partial(lead_checkpoint_out, spelling),
            partial(follow_checkpoint, spelling),
        )


ATTACKS = list(_attacks())
