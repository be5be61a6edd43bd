"""Packing plans: conservation for every strategy and policy, and equality with packers one can read."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokpack.batches import offsets_from_lengths
from tokpack.errors import DamagedError, UsageError
from tokpack.samplers.packing import STRATEGIES, PackingPlan, plan_rows
from tokpack.samplers.packing import in_order as in_order_module

POLICIES = ("split", "truncate", "drop")
LENGTHS = st.lists(st.integers(0, 60), max_size=80)
SEQ_LENS = st.integers(2, 24)


def offsets_of(lengths: list[int]) -> np.ndarray:
    return offsets_from_lengths(lengths, len(lengths))


def rows_of(plan: PackingPlan) -> list[list[tuple[int, int]]]:
    """Each row as (start, length) of its pieces."""
    pieces = list(zip(plan.starts.tolist(), plan.lengths.tolist(), strict=True))
    edges = plan.row_offsets.tolist()
    return [pieces[a:b] for a, b in itertools.pairwise(edges)]


def expected_pieces(lengths: list[int], seq_len: int, policy: str) -> list[tuple[int, int]]:
    """What must be placed, in the order of the dataset: written out one document at a time."""
    pieces, position = [], 0
    for length in lengths:
        if length > seq_len and policy == "truncate":
            pieces.append((position, seq_len))
        elif length <= seq_len or policy == "split":
            cuts = range(position, position + length, seq_len)
            pieces += [(start, min(seq_len, position + length - start)) for start in cuts]
        position += length
    return pieces


# packers one can read: a list of rows, each a list of pieces


def free(row: list[tuple[int, int]], seq_len: int) -> int:
    return seq_len - sum(length for _, length in row)


def read_best_fit(pieces: list[tuple[int, int]], seq_len: int) -> list[list[tuple[int, int]]]:
    rows: list[list[tuple[int, int]]] = []
    for piece in sorted(pieces, key=lambda piece: -piece[1]):
        fitting = [row for row in rows if free(row, seq_len) >= piece[1]]
        if fitting:
            min(fitting, key=lambda row: free(row, seq_len)).append(piece)
        else:
            rows.append([piece])
    return rows


def read_first_fit(pieces: list[tuple[int, int]], seq_len: int) -> list[list[tuple[int, int]]]:
    rows: list[list[tuple[int, int]]] = []
    for piece in sorted(pieces, key=lambda piece: -piece[1]):
        row = next((row for row in rows if free(row, seq_len) >= piece[1]), None)
        if row is None:
            rows.append(row := [])
        row.append(piece)
    return rows


def read_greedy(pieces: list[tuple[int, int]], seq_len: int) -> list[list[tuple[int, int]]]:
    rows: list[list[tuple[int, int]]] = []
    for piece in pieces:
        if not rows or free(rows[-1], seq_len) < piece[1]:
            rows.append([])
        rows[-1].append(piece)
    return rows


def read_pool(tails: list[tuple[int, int]], seq_len: int, open_rows: int) -> list[list[tuple[int, int]]]:
    rows: list[list[tuple[int, int]]] = []
    pool: list[list[tuple[int, int]]] = []
    for piece in tails:
        fitting = [row for row in pool if free(row, seq_len) >= piece[1]]
        if fitting:
            min(fitting, key=lambda row: free(row, seq_len)).append(piece)
            continue
        rows.append([piece])
        if len(pool) < open_rows:
            pool.append(rows[-1])
        else:
            fullest = min(range(open_rows), key=lambda place: free(pool[place], seq_len))
            pool[fullest] = rows[-1]
    return rows


def loads(rows: list[list[tuple[int, int]]]) -> Counter[int]:
    return Counter(sum(length for _, length in row) for row in rows)


# conservation


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("policy", POLICIES)
@given(lengths=LENGTHS, seq_len=SEQ_LENS)
def test_every_token_is_placed_once_or_counted(
    strategy: str, policy: str, lengths: list[int], seq_len: int
) -> None:
    plan = plan_rows(offsets_of(lengths), seq_len, strategy=strategy, long_documents=policy)
    rows, ledger = rows_of(plan), plan.ledger

    assert all(0 < sum(length for _, length in row) <= seq_len for row in rows)
    placed = sorted(piece for row in rows for piece in row)
    assert placed == expected_pieces(lengths, seq_len, policy)
    ends = np.cumsum(lengths).tolist()
    goes_on = [policy == "split" and sum(row[-1]) not in ends for row in rows]
    assert plan.continued.tolist() == goes_on

    long = sum(length > seq_len for length in lengths)
    assert (ledger.documents, ledger.tokens) == (len(lengths), sum(lengths))
    assert (ledger.rows, ledger.seq_len, len(plan)) == (len(rows), seq_len, len(rows))
    assert ledger.placed == sum(length for _, length in placed)
    assert ledger.tokens == ledger.placed + ledger.dropped
    assert ledger.rows * seq_len == ledger.placed + ledger.padded
    assert ledger.empty_documents == lengths.count(0)
    assert ledger.documents_split == (long if policy == "split" else 0)
    assert ledger.documents_truncated == (long if policy == "truncate" else 0)
    assert ledger.documents_dropped == (long if policy == "drop" else 0)
    if policy == "split":
        assert ledger.dropped == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_plan_reads_its_input_only(strategy: str) -> None:
    offsets = offsets_of([5, 0, 17, 3, 8, 8, 40])
    offsets.flags.writeable = False
    first, second = (plan_rows(offsets, 8, strategy=strategy) for _ in range(2))
    assert rows_of(first) == rows_of(second)
    assert first.ledger == second.ledger


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_blocks_do_not_show(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.random.default_rng(1).integers(0, 60, 500).tolist()
    monkeypatch.setattr(in_order_module, "POOL_DOCUMENTS", 64)
    whole = rows_of(plan_rows(offsets_of(lengths), 24, strategy=strategy))
    for module in ("documents", "by_length", "in_order"):
        monkeypatch.setattr(f"tokpack.samplers.packing.{module}.BLOCK", 7)
    monkeypatch.setattr(in_order_module, "_POOLS_AT_ONCE", 2)
    assert rows_of(plan_rows(offsets_of(lengths), 24, strategy=strategy)) == whole


def test_rows_of_more_than_65535_tokens() -> None:
    lengths = [100_000, 70_000, 30_001, 250_000, 1, 0]
    plan = plan_rows(offsets_of(lengths), 100_000)
    assert sorted(p for row in rows_of(plan) for p in row) == expected_pieces(lengths, 100_000, "split")
    assert loads(rows_of(plan)) == loads(read_best_fit(expected_pieces(lengths, 100_000, "split"), 100_000))


# against packers one can read


@given(lengths=LENGTHS, seq_len=SEQ_LENS)
def test_best_fit_equals_the_reference(lengths: list[int], seq_len: int) -> None:
    plan = plan_rows(offsets_of(lengths), seq_len, strategy="best-fit")
    # Which of several rows with equal room takes a piece is free; how full rows get is not.
    assert loads(rows_of(plan)) == loads(read_best_fit(expected_pieces(lengths, seq_len, "split"), seq_len))


@given(lengths=LENGTHS, seq_len=SEQ_LENS)
def test_first_fit_equals_the_reference(lengths: list[int], seq_len: int) -> None:
    plan = plan_rows(offsets_of(lengths), seq_len, strategy="first-fit", long_documents="truncate")
    assert rows_of(plan) == read_first_fit(expected_pieces(lengths, seq_len, "truncate"), seq_len)


@given(lengths=LENGTHS, seq_len=SEQ_LENS)
def test_greedy_equals_the_reference(lengths: list[int], seq_len: int) -> None:
    plan = plan_rows(offsets_of(lengths), seq_len, strategy="greedy")
    assert rows_of(plan) == read_greedy(expected_pieces(lengths, seq_len, "split"), seq_len)


@given(lengths=LENGTHS, seq_len=SEQ_LENS, documents=st.integers(1, 50), rows=st.integers(1, 5))
def test_pool_equals_the_reference(lengths: list[int], seq_len: int, documents: int, rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_order_module, "POOL_DOCUMENTS", documents)
        patch.setattr(in_order_module, "POOL_ROWS", rows)
        plan = plan_rows(offsets_of(lengths), seq_len, strategy="pool", long_documents="drop")
    expected, position = [], 0
    for first in range(0, len(lengths), documents):
        part = lengths[first : first + documents]
        tails = [(position + start, length) for start, length in expected_pieces(part, seq_len, "drop")]
        expected += read_pool(tails, seq_len, rows)
        position += sum(part)
    assert rows_of(plan) == expected  # a row is numbered when it is opened, in both


def test_pool_keeps_neighbours_together() -> None:
    lengths = np.random.default_rng(2).integers(1, 600, 20_000)
    offsets = offsets_from_lengths(lengths, len(lengths))
    plan = plan_rows(offsets, 256, strategy="pool")
    pool = (np.searchsorted(offsets, plan.starts, side="right") - 1) // 4096
    first, last = (edge.reduceat(pool, plan.row_offsets[:-1]) for edge in (np.minimum, np.maximum))
    assert (first == last).all()
    assert (np.diff(first) >= 0).all()


def synthetic_lengths(documents: int) -> np.ndarray:
    """Lognormal, mean 635 and median 365 tokens: 5 % of documents exceed 2048."""
    sigma = np.sqrt(2 * np.log(635 / 365))
    drawn = np.random.default_rng(0).lognormal(np.log(365), sigma, documents)
    return np.maximum(1, drawn.astype(np.int64))


def test_fill_on_the_synthetic_lengths() -> None:
    lengths = synthetic_lengths(200_000)
    offsets = offsets_from_lengths(lengths, len(lengths))
    fill = {name: plan_rows(offsets, 2048, strategy=name).ledger.fill for name in STRATEGIES}
    assert fill["best-fit"] >= 0.9999
    assert fill["first-fit"] >= 0.9999
    assert fill["pool"] >= 0.99
    assert fill["greedy"] >= 0.8
    assert plan_rows(offsets, 2048).ledger.dropped == 0


def test_rows_equal_those_of_best_fit_document_by_document() -> None:
    lengths = synthetic_lengths(2000).tolist()
    plan = plan_rows(offsets_of(lengths), 2048)
    assert loads(rows_of(plan)) == loads(read_best_fit(expected_pieces(lengths, 2048, "split"), 2048))


# bad input


@pytest.mark.parametrize("seq_len", [-1, 0, 1, 1 << 25])
def test_impossible_seq_len_is_refused(seq_len: int) -> None:
    with pytest.raises(UsageError, match="seq_len"):
        plan_rows(offsets_of([3]), seq_len)


def test_unknown_names_are_refused_with_the_choices() -> None:
    with pytest.raises(UsageError, match=r"'worst-fit'.*best-fit, first-fit, greedy, pool"):
        plan_rows(offsets_of([3]), 4, strategy="worst-fit")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"'crop'.*split, truncate, drop"):
        plan_rows(offsets_of([3]), 4, long_documents="crop")  # type: ignore[arg-type]


def test_descending_offsets_are_damage() -> None:
    with pytest.raises(DamagedError, match="document 1"):
        plan_rows(np.array([0, 5, 3, 9]), 4)
