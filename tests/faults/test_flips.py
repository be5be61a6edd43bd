"""Every bit of the files that only one format has; what all formats share is flipped in `test_verify`."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from counts import scaled
from scenarios import OUTPUT, encode_scenario, pack_scenario

from tokpack.dataset.verify import verify_dataset
from tokpack.errors import DamagedError, TokpackError
from tokpack.plugins import discover

FORMATS = ["bin", "npy", "jsonl", "jsonl-gz", "jsonl-zst", "parquet", "arrow", "megatron", "llmc"]


def flips(path: Path) -> Iterator[int]:
    """Flip each bit of a file in turn, and put it back; yields the number of the bit."""
    content = path.read_bytes()
    changed = bytearray(content)
    for bit in range(8 * len(content)):
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        changed[bit // 8] ^= 1 << bit % 8
        yield bit
    path.write_bytes(content)


def found_bad(folder: Path) -> list[str]:
    try:
        return [finding.path for finding in verify_dataset(folder, threads=1).findings]
    except TokpackError as error:
        return [str(error)]


def damaged(folder: Path, paths: list[Path]) -> int:
    tried = 0
    for path in paths:
        for bit in flips(path):
            assert path.name in found_bad(folder), f"{path.name}: bit {bit} was missed"
            tried += 1
    assert not found_bad(folder)
    return tried


@pytest.mark.parametrize("name", FORMATS)
def test_every_bit_of_a_shard(name: str, memory: Path, proved) -> None:
    if name not in discover().formats:
        pytest.skip(f"the format {name} is not installed")
    scenario = encode_scenario(name, documents=3, shard_bytes=None)
    scenario.prepare(memory)
    scenario.act(memory)
    folder = memory / OUTPUT
    shards = sorted(path for path in folder.glob("train*") if path.is_file())
    assert shards
    assert not found_bad(folder)
    proved("bits flipped, all found", damaged(folder, shards))


@pytest.mark.nightly
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", FORMATS)
def test_every_bit_of_a_larger_set(name: str, memory: Path, proved) -> None:
    """Every file of it; the text of manifest and sums included."""
    if name not in discover().formats:
        pytest.skip(f"the format {name} is not installed")
    scenario = encode_scenario(name, documents=40, shard_bytes=400)
    scenario.prepare(memory)
    scenario.act(memory)
    folder = memory / OUTPUT
    tried, rng = 0, random.Random(1)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            bits = 8 * len(content)
            for bit in sorted(rng.sample(range(bits), min(bits, scaled(20_000)))):
                changed = bytearray(content)
                changed[bit // 8] ^= 1 << bit % 8
                path.write_bytes(changed)
                assert found_bad(folder), f"{path.name}: bit {bit} was missed"
                tried += 1
            path.write_bytes(content)
    proved("bits flipped, all found", tried)


@pytest.mark.parametrize("name", ["npy", "parquet", "arrow"])
def test_every_bit_of_packed_rows(name: str, memory: Path, proved) -> None:
    """Their files go to other trainers: it is the list of sums beside them that finds what has changed."""
    if name not in {*discover().formats}:
        pytest.skip(f"the format {name} is not installed")
    scenario = pack_scenario(name)
    scenario.prepare(memory)
    scenario.act(memory)
    folder, tried = memory / OUTPUT, 0
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    sums = {line[66:]: line[:64] for line in lines}
    assert {*sums, "SHA256SUMS"} == {path.name for path in folder.iterdir()}
    for file, expected in sums.items():
        path = folder / file
        assert hashlib.sha256(path.read_bytes()).hexdigest() == expected
        for bit in flips(path):
            assert hashlib.sha256(path.read_bytes()).hexdigest() != expected, (file, bit)
            tried += 1
    proved("bits flipped, all found", tried)


def test_every_bit_of_a_checkpoint(memory: Path, proved) -> None:
    torch = pytest.importorskip("torch")
    from tokpack.train.checkpoint import Checkpoint, Checkpoints, load_checkpoint

    value = torch.arange(6.0)
    saved = Checkpoint(12, {"w": value}, {"w/exp_avg": value}, {"torch": value.byte()}, {"step": 12})
    Checkpoints(memory / "checkpoints", keep=2, background=False).save(saved)
    tried = 0
    for path in sorted((memory / "checkpoints" / "step-00000012").iterdir()):
        for bit in flips(path):
            with suppress(DamagedError):
                load_checkpoint(memory)
                pytest.fail(f"{path.name}: bit {bit} was missed")
            tried += 1
    assert load_checkpoint(memory).step == 12
    proved("bits flipped, all found", tried)
