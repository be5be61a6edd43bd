"""Rows at the speed of memory: the figures that the samplers promise, each against its peer in one run.

    python benchmarks/samplers.py [--tokens 750000000] [--rounds 40] [--directory DIR] [--json FILE]

One process on one core; the contenders of a table take turns, 128 batches at a time, and what is reported are
medians of processor time and their ratios. The peers are a C loop over memcpy, compiled here with cc, and the
`get_batch` of nanoGPT (commit 3adf61e), written out below. The file of tokens is made in DIR, 1.5 GB by
default, and removed.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, thread_time

import numpy as np
import torch
from numpy.typing import NDArray

import tokpack
from tokpack.batches import Batch
from tokpack.dataset.manifest import read_manifest
from tokpack.loader import open_loader, populate
from tokpack.loader.device import to_tensors
from tokpack.plugins import discover
from tokpack.protocols import Sampler, SamplerOptions, TokenStore
from tokpack.samplers import open_sampler
from tokpack.samplers.permutation import BLOCK, EpochOrder

ROWS, SEQ_LEN = 64, 1024
VOCAB_SIZE = 50_257
GATHER = """
#include <stdint.h>
#include <string.h>
void gather(const uint16_t *tokens, const int64_t *starts, int64_t rows, int64_t length, uint16_t *out) {
    for (int64_t i = 0; i < rows; i++) {
        if (i + 2 < rows) __builtin_prefetch(tokens + starts[i + 2]);
        memcpy(out + i * length, tokens + starts[i], length * sizeof *out);
    }
}
"""


class Table:
    """Collects figures and says which reach their goals."""

    def __init__(self) -> None:
        self.figures: list[dict[str, object]] = []

    def add(
        self, name: str, value: float, unit: str, *, most: float | None = None, least: float | None = None
    ) -> None:
        goal, met = "", None
        if most is not None:
            goal, met = f"at most {most:g}", value <= most
        elif least is not None:
            goal, met = f"at least {least:g}", value >= least
        self.figures.append({"figure": name, "value": value, "unit": unit, "goal": goal, "met": met})
        verdict = {True: "met", False: "MISSED", None: ""}[met]
        print(f"{name:<66} {value:>10.4g} {unit:<10} {goal:<14} {verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=750_000_000, help="tokens in the file, two bytes each")
    parser.add_argument("--rounds", type=int, default=40, help="turns of 128 batches per contender")
    parser.add_argument("--directory", type=Path, help="where to put the files; default a temporary folder")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)  # what needs a process of its own
    arguments = parser.parse_args()
    if arguments.open:
        print(json.dumps(open_and_take_one(arguments.open)))
        return
    every_core = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(every_core)})
    torch.set_num_threads(1)
    table = Table()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        directory = Path(name)
        dataset = make_dataset(directory / "tokens", arguments.tokens, sparse=False)
        gathers(table, dataset, arguments.rounds, compile_gather(directory))
        order_memory(table, dataset)
        first_touch(table, dataset)
        resuming(table, dataset)
        permutation(table)
        metadata(table)
        shutil.rmtree(dataset)
        os.sched_setaffinity(0, every_core)
        opening(table, directory)
    if arguments.json:
        report = {"machine": machine(), "command": sys.argv[1:], "figures": table.figures}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


def machine() -> dict[str, object]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "unknown")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


def make_dataset(path: Path, tokens: int, *, sparse: bool) -> Path:
    """Make a dataset of one shard of so many tokens: random ones, or a hole of as many zeros."""
    text = path.with_suffix(".txt")
    text.write_text("x" * 100)
    tokpack.encode(text, path, tokenizer="byte:", format="bin")
    manifest = read_manifest(path)
    train = manifest.splits["train"]
    (shard,) = train.shards
    grown = replace(shard, tokens=tokens, file=replace(shard.file, size_bytes=2 * tokens))
    splits = {"train": replace(train, tokens=tokens, shards=[grown])}
    tokenizer = replace(manifest.tokenizer, vocab_size=VOCAB_SIZE)
    (path / "manifest.json").write_bytes(replace(manifest, splits=splits, tokenizer=tokenizer).to_bytes())
    rng = np.random.default_rng(0)
    with (path / shard.file.name).open("wb") as file:
        file.truncate(2 * tokens)
        for first in range(0, 0 if sparse else tokens, 1 << 24):
            count = min(1 << 24, tokens - first)
            file.write(rng.integers(0, VOCAB_SIZE, count, dtype=np.uint16).tobytes())
    return path


def open_train(dataset: Path) -> TokenStore:
    return tokpack.open_dataset(dataset)["train"]


def open_rows(store: TokenStore, *, seed: int = 0, epoch: str = "exact") -> Sampler:
    return open_sampler("random-block", store, SamplerOptions(SEQ_LEN, seed, {"epoch": epoch}))


def compile_gather(directory: Path) -> ctypes.CDLL:
    source, library = directory / "gather.c", directory / "gather.so"
    source.write_text(GATHER)
    subprocess.run(["cc", "-O3", "-march=native", "-shared", "-fPIC", source, "-o", library], check=True)
    return ctypes.CDLL(str(library))


def interleaved(
    contenders: dict[str, Callable[[], object]], rounds: int, *, calls: int = 1
) -> dict[str, float]:
    """Return the median microseconds per call of each contender, called ``calls`` times in each round.

    It is processor time, since a machine that others use as well stops a contender at random. Many calls in a
    row share out what is done once in a while, such as the order of a block of rows. A
    tenth of the rounds comes before as warm-up.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + rounds // 10):
        for name, run in contenders.items():
            begin = thread_time()
            for _ in range(calls):
                run()
            times[name].append((thread_time() - begin) / calls)
    return {name: median(taken[rounds // 10 :]) * 1e6 for name, taken in times.items()}


def consecutive() -> Callable[[], NDArray[np.int64]]:
    """Return a function that gives the row numbers of batch after batch."""
    firsts = itertools.count(0, ROWS)
    return lambda: np.arange(first := next(firsts), first + ROWS)


def filler(sampler: Sampler, out: Batch) -> Callable[[], None]:
    rows = consecutive()
    return lambda: sampler.fill(rows(), out)


def gathers(table: Table, dataset: Path, rounds: int, library: ctypes.CDLL) -> None:
    store = open_train(dataset)
    populate(store)
    tokens = store.read(0, len(store))
    path = next(dataset.glob("*.bin"))
    out = Batch.empty(ROWS, SEQ_LEN, store.dtype)
    rng = np.random.default_rng(1)
    shuffled = rng.permutation((len(store) - 1) // SEQ_LEN) * SEQ_LEN
    rows = consecutive()
    draws = itertools.cycle(rng.integers(0, len(store) - SEQ_LEN, (4096, ROWS)))

    # The pointers that stay are made once: only the starts are passed anew, as they are to us.
    source, target = ctypes.c_void_p(tokens.ctypes.data), ctypes.c_void_p(out.tokens.ctypes.data)
    count, length = ctypes.c_int64(ROWS), ctypes.c_int64(SEQ_LEN + 1)

    def c_loop() -> None:
        library.gather(source, ctypes.c_void_p(next(draws).ctypes.data), count, length, target)

    def c_loop_on_arrays() -> None:
        library.gather(
            ctypes.c_void_p(tokens.ctypes.data),
            ctypes.c_void_p(next(draws).ctypes.data),
            ctypes.c_int64(len(out)),
            ctypes.c_int64(out.seq_len + 1),
            ctypes.c_void_p(out.tokens.ctypes.data),
        )

    fill = filler(open_rows(store), out)

    def int64_pair() -> None:
        fill()
        to_tensors(out)

    loader = open_loader(open_rows(store), batch_size=ROWS, prefetch=0)
    contenders: dict[str, Callable[[], object]] = {
        "C loop over memcpy, pointers made before, uint16": c_loop,
        "C loop over memcpy, called with arrays, uint16": c_loop_on_arrays,
        "gather at random starts, uint16": lambda: store.gather(next(draws), out.tokens),
        "random-block exact, uint16": filler(open_rows(store), out),
        "random-block replacement, uint16": filler(open_rows(store, epoch="replacement"), out),
        "materialised permutation, uint16": lambda: store.gather(shuffled[rows()], out.tokens),
        "loader without prefetch, ids checked, uint16": lambda: next(loader),
        "random-block exact, int64 inputs and labels": int64_pair,
        "nanoGPT get_batch, int64 inputs and labels": lambda: nanogpt_get_batch(path),
    }
    took = interleaved(contenders, rounds, calls=BLOCK // ROWS)
    for name, microseconds in took.items():
        table.add(name, microseconds, "us/batch")
    floor = took["C loop over memcpy, called with arrays, uint16"]
    bare, gathered = (
        took["C loop over memcpy, pointers made before, uint16"],
        took["gather at random starts, uint16"],
    )
    exactly, nanogpt = took["random-block exact, uint16"], took["nanoGPT get_batch, int64 inputs and labels"]
    pair = took["random-block exact, int64 inputs and labels"]
    table.add("gather over the C loop called with arrays", gathered / floor, "x", most=1.25)
    table.add("gather over the C loop with pointers made before", gathered / bare, "x")
    table.add("random-block exact over the C loop called with arrays", exactly / floor, "x")
    table.add("random-block exact, speed over nanoGPT's", nanogpt / exactly, "x", least=40)
    table.add("int64 inputs and labels, speed over nanoGPT's", nanogpt / pair, "x", least=15)
    table.add("random-block exact over a gather at starts drawn before", exactly / gathered, "x", most=1.15)
    drawn = took["random-block replacement, uint16"]
    table.add("random-block exact over replacement, which draws its starts, too", exactly / drawn, "x")


def order_memory(table: Table, dataset: Path) -> None:
    store = open_train(dataset)
    out = Batch.empty(ROWS, SEQ_LEN, store.dtype)
    open_rows(store).fill(np.arange(ROWS), out)
    tracemalloc.start()
    sampler = open_rows(store, seed=1)
    for step in range(256):
        sampler.fill(np.arange(step * ROWS, (step + 1) * ROWS), out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    table.add("memory of the exactly-once order, with the gather's own buffer", peak / 1e6, "MB", most=1)


def nanogpt_get_batch(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """nanoGPT's `get_batch` on the CPU: the file is mapped anew for every batch."""
    data = np.memmap(path, dtype=np.uint16, mode="r")
    ix = torch.randint(len(data) - SEQ_LEN, (ROWS,))
    x = torch.stack([torch.from_numpy((data[i : i + SEQ_LEN]).astype(np.int64)) for i in ix])
    y = torch.stack([torch.from_numpy((data[i + 1 : i + 1 + SEQ_LEN]).astype(np.int64)) for i in ix])
    return x, y


def first_touch(table: Table, dataset: Path) -> None:
    """What a fresh mapping costs, with and without `populate`."""

    def first_batches(store: TokenStore, seed: int) -> float:
        fill = filler(open_rows(store, seed=seed), Batch.empty(ROWS, SEQ_LEN, store.dtype))
        begin = thread_time()
        for _ in range(64):
            fill()
        return (thread_time() - begin) / 64 * 1e6

    fresh, populated, warm, rates = [], [], [], []
    for seed in range(5):
        fresh.append(first_batches(open_train(dataset), seed))
        store = open_train(dataset)
        begin = perf_counter()
        touched_bytes = populate(store)
        rates.append(touched_bytes / (perf_counter() - begin) / 1e9)
        populated.append(first_batches(store, seed))
        warm.append(first_batches(store, seed))
    table.add("first 64 batches of a fresh mapping", median(fresh), "us/batch")
    table.add("first 64 batches of a populated mapping", median(populated), "us/batch")
    table.add("populated over warm", median(populated) / median(warm), "x", most=1.3)
    table.add("populate, file in the page cache", median(rates), "GB/s", least=20)


def resuming(table: Table, dataset: Path) -> None:
    store = open_train(dataset)
    populate(store)
    state = open_loader(open_rows(store), batch_size=ROWS).state_dict()
    steps = open_rows(store).rows_before(1) // ROWS
    taken = []
    for step in np.random.default_rng(3).integers(0, steps, 200).tolist():
        begin = perf_counter()
        loader = open_loader(open_rows(store), batch_size=ROWS, prefetch=0)
        loader.load_state_dict(state | {"step": step})
        next(loader)
        taken.append(perf_counter() - begin)
    table.add("resume at a random step, to the first batch", median(taken) * 1e3, "ms", most=2)
    table.add("state, as JSON", len(json.dumps(state | {"step": 10**9})), "bytes", most=512)


def opening(table: Table, directory: Path) -> None:
    """Open datasets up to 10**12 tokens and take one batch, each in a process of its own."""
    for exponent in (9, 10, 11, 12):
        dataset = make_dataset(directory / f"sparse-{exponent}", 10**exponent, sparse=True)
        before = sorted(dataset.rglob("*"))
        # Modules are compiled once per installation, not once per run.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        command = [sys.executable, __file__, "--open", str(dataset)]
        runs = [
            json.loads(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)
            for _ in range(11)
        ]
        name = f"10^{exponent} tokens, open to first batch"
        table.add(name, median(run["ms"] for run in runs), "ms", most=50)
        table.add(f"{name}: processor time", median(run["cpu_ms"] for run in runs), "ms", most=50)
        table.add(f"{name}: growth of RSS", max(run["mb"] for run in runs), "MB", most=50)
        table.add(f"{name}: files written", len(sorted(dataset.rglob("*"))) - len(before), "", most=0)
        shutil.rmtree(dataset)


def open_and_take_one(dataset: Path) -> dict[str, float]:
    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    discover()  # what is installed has nothing to do with the dataset
    gc.freeze()  # nor has the collector's way through the objects of torch, which this script imported
    before, begin, begin_cpu = resident_mb(), perf_counter(), process_time()
    loader = open_loader(open_rows(open_train(dataset)), batch_size=ROWS)
    next(loader)
    took, took_cpu, grown = perf_counter() - begin, process_time() - begin_cpu, resident_mb() - before
    loader.close()
    return {"ms": took * 1e3, "cpu_ms": took_cpu * 1e3, "mb": grown}


def permutation(table: Table) -> None:
    """Nanoseconds per index of the keyed order, in blocks as the samplers use it."""
    for size in (1 << 20, (1 << 20) + 1, 732_421, 240_000_000, 10**12):
        order, firsts = EpochOrder(size, seed=0, stream="benchmark"), itertools.count(0, BLOCK)

        def block(order: EpochOrder = order, firsts: Iterator[int] = firsts) -> None:
            order.items(np.arange(first := next(firsts), first + BLOCK))

        took = interleaved({"": block}, 400)[""]
        table.add(f"keyed order of {size:,} items", took * 1e3 / BLOCK, "ns/index", most=55)


def metadata(table: Table) -> None:
    """`cu_seqlens` and positions of a batch of documents of 365 tokens in the median."""
    lengths = np.random.default_rng(0).lognormal(np.log(365), 1.05, 1000).astype(np.int64) + 1
    ends = np.cumsum(lengths)
    segment_ids = np.empty((ROWS, SEQ_LEN + 1), np.uint16)
    for row in range(ROWS):
        documents = np.searchsorted(ends, np.arange(row * SEQ_LEN, (row + 1) * SEQ_LEN + 1), side="right")
        segment_ids[row] = documents - documents[0] + 1
    batch = Batch(np.zeros_like(segment_ids), segment_ids)
    took = interleaved({"cu_seqlens": batch.cu_seqlens, "position_ids": batch.position_ids}, 400)
    table.add("cu_seqlens of a batch of segments", took["cu_seqlens"], "us", most=20)
    table.add("position_ids of a batch of segments, on the host", took["position_ids"], "us")


if __name__ == "__main__":
    main()
