"""Manifests that someone changed: a named error or a harmless reading, and nothing of theirs is run."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from counts import scaled
from scenarios import OUTPUT, encode_scenario
from tripwire import tripwire

from tokpack.batches import TextBatch
from tokpack.dataset.manifest import MANIFEST_NAME
from tokpack.dataset.store import open_dataset
from tokpack.dataset.verify import verify_dataset
from tokpack.errors import TokpackError
from tokpack.plugins import discover
from tokpack.protocols import TokenizerOptions
from tokpack.specs import load

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


SPECIAL = ("eos_token", "bos_token", "pad_token")
SLOW = [pytest.mark.nightly, pytest.mark.timeout(0)]


@pytest.mark.parametrize("count", [10_000, pytest.param(scaled(1_000_000), marks=SLOW)])
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


def mutated_files(path: Path, count: int, proved: Any, what: str, use: Callable[[], object]) -> None:
    """Change a JSON file again and again, and use what it belongs to."""
    genuine = json.loads(path.read_text())
    use()
    rng = random.Random(count)
    refused = 0
    for _ in range(count):
        content = encoded(mutated(genuine, rng), rng)
        path.write_bytes(content)
        with tripwire() as heard:
            try:
                use()
            except TokpackError:
                refused += 1
            except Exception as error:
                pytest.fail(f"{error!r} for {content!r}")
        assert not heard, (heard, content)
    assert refused > count // 30  # hardly any part of a tokenizer's settings is looked at
    proved(what, count)


@pytest.mark.parametrize("count", [3_000, pytest.param(scaled(200_000), marks=SLOW)])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_mutated_tokenizers(count: int, name: str, memory: Path, proved) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE({letter: n for n, letter in enumerate("atex ")}, [])
    )
    tokenizer.normalizer = tokenizers.normalizers.NFC()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.save(str(memory / "tokenizer.json"))
    (memory / "tokenizer_config.json").write_text(json.dumps(dict.fromkeys(SPECIAL, "<s>")))
    texts = TextBatch.from_texts(["a text"])
    opened = load(discover().tokenizers["hf"].open)

    def use() -> None:
        opened(str(memory), TokenizerOptions()).encode_batch(texts)

    mutated_files(memory / name, count, proved, "hostile tokenizer files", use)


@pytest.mark.parametrize("count", [2_000, pytest.param(scaled(200_000), marks=SLOW)])
def test_mutated_checkpoints(count: int, memory: Path, proved) -> None:
    torch = pytest.importorskip("torch")
    from tokpack.train.checkpoint import Checkpoint, Checkpoints, load_checkpoint

    value = torch.arange(6.0)
    saved = Checkpoint(12, {"w": value}, {"w/exp_avg": value}, {"torch": value.byte()}, {"step": 12})
    Checkpoints(memory / "checkpoints", keep=2, background=False).save(saved)
    index = memory / "checkpoints" / "step-00000012" / "checkpoint.json"
    mutated_files(index, count, proved, "hostile checkpoint files", lambda: load_checkpoint(memory))
