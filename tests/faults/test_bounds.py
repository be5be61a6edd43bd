"""Bounds of memory and time, whatever the input: measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from counts import scaled

#: Reads a source or encodes, and prints how much its memory grew, in MiB.
MEASURED = """
import json, resource, sys
import tokpack
from tokpack.dataset.verify import verify_dataset
(source, output, options) = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
tokpack.encode(sys.argv[4], output + "0", tokenizer="byte")  # whatever is imported on first use
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
dataset = tokpack.encode(source, output, **({"tokenizer": "byte"} | options))
assert not verify_dataset(dataset.path, threads=1).findings
rows = sum(store.num_documents for store in dataset.values())
ledger = dataset.manifest.ledger
print(json.dumps([
    (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10,
    rows, ledger.read, ledger.empty, sum(len(split.shards) for split in dataset.manifest.splits.values()),
]))
"""
LIMIT_MIB = 300


def measured(folder: Path, source: Path, **options: object) -> list[int]:
    (folder / "small.txt").write_text("small")
    command = [sys.executable, "-c", MEASURED, str(source), str(folder / "set"), json.dumps(options)]
    done = subprocess.run(
        [*command, str(folder / "small.txt")], capture_output=True, text=True, check=False, timeout=550
    )
    assert done.returncode == 0, done.stderr
    found: list[int] = json.loads(done.stdout)
    assert found[0] < LIMIT_MIB, f"memory grew by {found[0]} MiB"
    return found


@pytest.mark.parametrize("documents", [100_000, pytest.param(scaled(1_000_000), marks=pytest.mark.nightly)])
@pytest.mark.parametrize("keep_empty", [False, True])
def test_empty_documents(documents: int, keep_empty: bool, memory: Path, proved) -> None:
    with (memory / "a.jsonl").open("w") as file:
        file.write('{"text": ""}\n' * documents + '{"text": "a"}\n')
    _, stored, read, empty, _ = measured(memory, memory / "a.jsonl", keep_empty=keep_empty)
    assert (read, stored, empty) == (
        documents + 1,
        documents + 1 if keep_empty else 1,
        0 if keep_empty else documents,
    )
    proved("empty documents", documents)


@pytest.mark.parametrize("shards", [1_000, pytest.param(scaled(10_000), marks=pytest.mark.nightly)])
def test_many_shards(shards: int, memory: Path, proved) -> None:
    with (memory / "a.jsonl").open("w") as file:
        file.writelines(f'{{"text": "document {number:08}"}}\n' for number in range(shards))
    assert measured(memory, memory / "a.jsonl", shard_bytes=36)[4] == shards
    proved("shards of one dataset", shards)


@pytest.mark.parametrize("words", [100_000, pytest.param(scaled(1_000_000), marks=pytest.mark.nightly)])
@pytest.mark.parametrize("backend", ["byte", "bpe"])
def test_unique_words_take_no_memory(words: int, backend: str, memory: Path, proved) -> None:
    """A word that was never seen before is a new entry of every cache."""
    with (memory / "a.jsonl").open("w") as file:
        for first in range(0, words, 1000):
            text = " ".join(f"w{number * 7919:x}" for number in range(first, first + 1000))
            file.write(json.dumps({"text": text}) + "\n")
    options: dict[str, object] = {}
    if backend == "bpe":
        options = {"tokenizer": f"bpe:{trained(memory)}"}
    measured(memory, memory / "a.jsonl", **options)
    proved("words never seen before", words)


def trained(folder: Path) -> Path:
    pytest.importorskip("tokpack_bpe")
    (folder / "corpus.txt").write_text("the cat sat on the mat " * 50)
    command = [Path(sys.executable).with_name("tokpack"), "train-tokenizer", folder / "corpus.txt"]
    options = ["--vocab-size", "270", "-o", folder / "tokenizer"]
    done = subprocess.run(
        [*map(str, [*command, *options])],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return folder / "tokenizer" / "tokenizer.json"
