"""Packing plans and the metadata of packed batches, against the segment tree that TRL packs with.

Both sides plan the same 200,000 documents, in turns, in one process: lognormal lengths with mean 635 and
median 365 tokens, of which 5 % exceed the rows of 2048 and are split by both. Run it alone:

    python benchmarks/packing.py [--documents 200000] [--rounds 7] [--json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import Batch, offsets_from_lengths
from tokpack.dataset.store import ArrayStore
from tokpack.samplers.packed import Packed
from tokpack.samplers.packing import STRATEGIES, PackingPlan, Strategy, plan_rows

SEQ_LEN = 2048
Result = TypeVar("Result")


def synthetic_lengths(documents: int, seed: int = 0) -> NDArray[np.int64]:
    sigma = np.sqrt(2 * np.log(635 / 365))
    drawn = np.random.default_rng(seed).lognormal(np.log(365), sigma, documents)
    return np.maximum(1, drawn.astype(np.int64))


class RoomTree:
    """Which rooms some row still has, as a segment tree: the smallest that is enough, in O(log seq_len)."""

    def __init__(self, largest: int) -> None:
        self.size = 1 << largest.bit_length()
        self.best = [0] * (2 * self.size)  # the largest room below each node

    def put(self, room: int, value: int) -> None:
        node = self.size + room
        self.best[node] = value
        while node > 1:
            node //= 2
            self.best[node] = max(self.best[2 * node], self.best[2 * node + 1])

    def smallest(self, enough: int) -> int:
        if self.best[1] < enough:
            return 0
        node = 1
        while node < self.size:
            node = 2 * node if self.best[2 * node] >= enough else 2 * node + 1
        return self.best[node]


def best_fit_by_tree(lengths: NDArray[np.int64], seq_len: int) -> list[list[tuple[int, int]]]:
    """Best-fit decreasing as TRL structures it: one document at a time, split at seq_len on entry."""
    pieces = [
        (document, min(seq_len, length - start))
        for document, length in enumerate(lengths.tolist())
        for start in range(0, length, seq_len)
    ]
    pieces.sort(key=lambda piece: piece[1], reverse=True)
    tree = RoomTree(seq_len)
    rows_with: list[list[list[tuple[int, int]]]] = [[] for _ in range(seq_len + 1)]
    rows: list[list[tuple[int, int]]] = []
    for piece in pieces:
        if room := tree.smallest(piece[1]):
            row = rows_with[room].pop()
            if not rows_with[room]:
                tree.put(room, 0)
        else:
            room, row = seq_len, []
            rows.append(row)
        row.append(piece)
        left = room - piece[1]
        if left and not rows_with[left]:
            tree.put(left, left)
        rows_with[left].append(row)
    return rows


def timed(function: Callable[[], Result]) -> tuple[float, Result]:
    begin = perf_counter()
    result = function()
    return perf_counter() - begin, result


def measure_plans(documents: int, rounds: int) -> dict[str, dict[str, float]]:
    lengths = synthetic_lengths(documents)
    offsets = offsets_from_lengths(lengths, documents)
    tokens = int(offsets[-1])
    seconds: dict[str, list[float]] = {name: [] for name in ("segment tree", *STRATEGIES)}
    plans: dict[Strategy, PackingPlan] = {}
    tree_rows: list[list[tuple[int, int]]] = []
    for _ in range(rounds):
        took, tree_rows = timed(partial(best_fit_by_tree, lengths, SEQ_LEN))
        seconds["segment tree"].append(took)
        for strategy in STRATEGIES:
            took, plans[strategy] = timed(partial(plan_rows, offsets, SEQ_LEN, strategy=strategy))
            seconds[strategy].append(took)
    assert sum(length for row in tree_rows for _, length in row) == tokens
    base = median(seconds["segment tree"])
    report = {
        "segment tree": {"rows": len(tree_rows), "fill": tokens / (len(tree_rows) * SEQ_LEN), "lost": 0}
    }
    for strategy, plan in plans.items():
        report[strategy] = {"rows": len(plan), "fill": plan.ledger.fill, "lost": tokens - plan.ledger.placed}
    for name, row in report.items():
        row |= {
            "documents_per_s": documents / median(seconds[name]),
            "times_segment_tree": base / median(seconds[name]),
        }
    return report


def measure_batches(documents: int, rounds: int) -> dict[str, float]:
    """Time batches of 64 x 1024, each of other rows, right after one another as in training."""
    lengths = synthetic_lengths(documents)
    offsets = offsets_from_lengths(lengths, documents)
    tokens = np.random.default_rng(1).integers(0, 50257, offsets[-1], dtype=np.uint16)
    sampler = Packed(ArrayStore(tokens, offsets, vocab_size=50257), seq_len=1024)
    batch = Batch.empty(64, 1024, sampler.dtype, segmented=True)
    seconds: dict[str, list[float]] = {"cu_seqlens_us": [], "fill_us": []}
    for step in range(300 * rounds):
        rows = np.arange(step * 64, step * 64 + 64)
        seconds["fill_us"].append(timed(partial(sampler.fill, rows, batch))[0])
        seconds["cu_seqlens_us"].append(timed(batch.cu_seqlens)[0])
    return {name: median(times) * 1e6 for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    plans = measure_plans(arguments.documents, arguments.rounds)
    batches = measure_batches(arguments.documents, arguments.rounds)
    if arguments.json:
        print(json.dumps({"plans": plans, "batches": batches}, indent=2))
        return
    print(f"{arguments.documents:,} documents, rows of {SEQ_LEN}, medians of {arguments.rounds} rounds\n")
    print(f"{'':14}{'M documents/s':>14}{'x tree':>8}{'rows':>10}{'fill':>10}{'tokens lost':>13}")
    for name, row in plans.items():
        print(
            f"{name:14}{row['documents_per_s'] / 1e6:14.2f}{row['times_segment_tree']:8.1f}"
            f"{row['rows']:10,}{row['fill']:10.5f}{row['lost']:13,}"
        )
    print("\nbatches of 64 x 1024:")
    print(f"  cu_seqlens                 {batches['cu_seqlens_us']:6.1f} us")
    print(f"  fill, with segment ids     {batches['fill_us']:6.1f} us")


if __name__ == "__main__":
    main()
