"""``random-block``: epochs without repeats at any size, draws like nanoGPT's, golden rows."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokpack.batches import Batch
from tokpack.dataset.store import ArrayStore
from tokpack.samplers.permutation import BLOCK, EpochOrder
from tokpack.samplers.random_block import RandomBlock


def sampler_of(length: int, seq_len: int, seed: int = 0, epoch: str = "exact") -> RandomBlock:
    tokens = np.broadcast_to(np.zeros(1, np.uint16), (length,))  # no memory: only the order is looked at
    store = ArrayStore(tokens, vocab_size=1)
    return RandomBlock(
        store, seq_len=seq_len, seed=seed, epoch="exact" if epoch == "exact" else "replacement"
    )


@pytest.mark.parametrize("rows", [1, 4095, BLOCK, BLOCK + 1, 10**6 + 3])
def test_an_epoch_covers_every_window_once(rows: int) -> None:
    check_coverage(rows)


@pytest.mark.nightly
def test_an_epoch_of_ten_million_rows_covers_every_window_once() -> None:
    check_coverage(10**7)


def check_coverage(rows: int) -> None:
    seq_len = 3
    sampler = sampler_of(rows * seq_len + 2, seq_len)
    for epoch in (0, 1):
        first, last = sampler.rows_before(epoch), sampler.rows_before(epoch + 1)
        starts = np.concatenate(
            [sampler.starts(np.arange(at, min(at + BLOCK, last))) for at in range(first, last, BLOCK)]
        )
        starts.sort()
        assert last - first in (rows, rows - 1)
        assert (np.diff(starts) == seq_len).all()


@settings(max_examples=60)
@given(st.integers(2, 10**12), st.integers(0, 10**6), st.data())
def test_rows_are_legal_and_pure_anywhere(length: int, seed: int, data: st.DataObject) -> None:
    seq_len = data.draw(st.integers(1, min(length - 1, 4096)))
    rows = np.array(data.draw(st.lists(st.integers(0, 10**9), min_size=1, max_size=20)))
    for epoch in ("exact", "replacement"):
        starts = sampler_of(length, seq_len, seed, epoch).starts(rows)
        assert starts.min() >= 0
        assert starts.max() + seq_len < length
        again = sampler_of(length, seq_len, seed, epoch)
        assert [int(again.starts(rows[i : i + 1])[0]) for i in range(len(rows))] == starts.tolist()


def test_golden_rows_pin_the_sampler() -> None:
    """A change here breaks resuming on every machine: raise ORDER_VERSION instead."""
    rows = np.array([0, 1, 2, 999, 10**6, 10**9])
    exact, drawn = (sampler_of(10**9, 1024, 7, epoch) for epoch in ("exact", "replacement"))
    assert exact.starts(rows).tolist() == GOLDEN_EXACT
    assert drawn.starts(rows).tolist() == GOLDEN_DRAWN


GOLDEN_EXACT = [303605976, 420591832, 960251096, 183768280, 813699966, 761708053]
GOLDEN_DRAWN = [69799527, 528422174, 580132683, 700343629, 751588682, 962129498]


def test_draws_are_uniform_over_all_legal_starts() -> None:
    length, seq_len, draws = 1000, 24, 976_000
    counts = np.bincount(sampler_of(length, seq_len, epoch="replacement").starts(np.arange(draws)))
    assert len(counts) == length - seq_len  # the first and the last legal start among them
    expected = draws / (length - seq_len)
    chi2 = ((counts - expected) ** 2 / expected).sum()
    degrees = length - seq_len - 1
    assert abs(chi2 - degrees) < 4 * np.sqrt(2 * degrees)


def test_epochs_cut_at_different_places() -> None:
    sampler = sampler_of(10**6, 1024)
    phases = [int(sampler.starts(np.array([sampler.rows_before(epoch)]))[0]) % 1024 for epoch in range(1024)]
    assert sorted(phases) == list(range(1024))
    assert len(set(phases[:8])) == 8


def test_threads_share_a_sampler() -> None:
    tokens = np.random.default_rng(0).integers(0, 60_000, 200_000).astype(np.uint16)
    sampler = RandomBlock(ArrayStore(tokens, vocab_size=60_000), seq_len=16)

    def fill(first: int) -> bytes:
        batch = Batch.empty(64, 16, sampler.dtype)
        sampler.fill(np.arange(first, first + 64), batch)
        return batch.tokens.tobytes()

    firsts = np.random.default_rng(1).integers(0, 10 * BLOCK, 300).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(fill, firsts)) == [fill(first) for first in firsts]
    copy = pickle.loads(pickle.dumps(sampler))
    assert copy.starts(np.arange(50)).tolist() == sampler.starts(np.arange(50)).tolist()


def test_a_block_that_was_handed_out_cannot_be_changed() -> None:
    items = EpochOrder(100, seed=0, stream="s").items(np.arange(10))
    with pytest.raises(ValueError, match="read-only"):
        items[0] = 1
