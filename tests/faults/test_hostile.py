"""Manifests that someone changed: a named error or a harmless reading, and nothing of theirs is run."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from scenarios import OUTPUT, encode_scenario
from tripwire import tripwire

from tokpack.dataset.manifest import MANIFEST_NAME
from tokpack.dataset.store import open_dataset
from tokpack.dataset.verify import verify_dataset
from tokpack.errors import TokpackError

NAMES = [
    "../../etc/passwd", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "C:\\x", "\0", "x\0y", "train.bin\n",
    "~root",     "CON", ".hidden", "-rf", "$(id)", "`id`", "%2e%2e/x", "ａ", "\u202enib", "x" * 129, "file:///etc/passwd",
    "__import__('os').system('id')", "!!python/object/apply:os.system", "os:system", "pickle:loads",
    "train.pkl", ]  # fmt: skip
NUMBERS = [
    -1, 0, 1, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64,
    10**30, 1.5, 1e308, True, None,
]  # fmt: skip
KEYS = ["trust_remote_code", "auto_map", "__class__", "__reduce__", "plugin", "module", "entry_point", "exec"]
ODD = [[], {}, "", None, [[]] * 3, {"a": {"b": {}}}, "\ud800", "€" * 50]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a JSON value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def mutated(manifest: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A copy with one to three values changed, dropped, doubled or added."""
    result = json.loads(json.dumps(manifest))
    for _ in range(rng.randrange(1, 4)):
        *way, last = rng.choice(places(result))
        parent = result
        for key in way:
            parent = parent[key]
        value = parent[last]
        match rng.randrange(6):
            case 0 if isinstance(value, int):
                parent[last] = rng.choice([value + rng.choice((-1, 1)), *NUMBERS])
            case 0 | 1 if isinstance(value, str):
                parent[last] = rng.choice([*NAMES, value.upper(), value + "0", value[:-1]])
            case 2 if isinstance(value, list) and value:
                value.append(json.loads(json.dumps(rng.choice(value))))
            case 3:
                parent.pop(last)
            case 4 if isinstance(value, dict):
                value[rng.choice(KEYS)] = rng.choice([True, "os:system", 1])
            case _:
                parent[last] = rng.choice([*NUMBERS, *NAMES, *ODD])
    return result


def encoded(manifest: dict[str, Any], rng: random.Random) -> bytes:
    """As canonical as it can be made, so that the check of values is reached and not only that of bytes."""
    try:
        content = msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"
    except (msgspec.MsgspecError, UnicodeError, OverflowError, ValueError):
        content = json.dumps(manifest, indent=2, sort_keys=True).encode() + b"\n"
    if rng.random() < 0.05:
        at = rng.randrange(len(content))
        content = content[:at] + rng.randbytes(rng.randrange(4)) + content[at + rng.randrange(3) :]
    return content


@pytest.mark.parametrize("count", [10_000, pytest.param(1_000_000, marks=pytest.mark.nightly)])
def test_mutated_manifests(count: int, memory: Path, proved) -> None:
    scenario = encode_scenario("bin")
    scenario.prepare(memory)
    scenario.act(memory)
    folder = memory / OUTPUT
    original = (folder / MANIFEST_NAME).read_bytes()
    genuine = json.loads(original)
    verify_dataset(folder, threads=1)  # whatever is imported on first use is imported now
    [store.offsets for store in open_dataset(folder).values()]
    rng = random.Random(count)
    refused = different = 0
    for _ in range(count):
        content = encoded(mutated(genuine, rng), rng)
        if content == original:
            continue
        different += 1
        (folder / MANIFEST_NAME).write_bytes(content)
        with tripwire() as heard:
            try:
                dataset = open_dataset(folder)
                for store in dataset.values():
                    if len(store):
                        store.read(0, min(len(store), 64))
                    store.offsets  # noqa: B018 (reads them)
                assert verify_dataset(folder, quick=True, threads=1).exit_code, (
                    "SHA256SUMS differs in any case"
                )
            except TokpackError:
                refused += 1
        assert not heard, (heard, content)
    assert refused > different // 2
    proved("hostile manifests", different)
    shutil.rmtree(folder)
