"""Every small split, row length and stride: the rows are exactly the ones of the definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tokpack.batches import Batch
from tokpack.dataset.store import ArrayStore
from tokpack.errors import UsageError
from tokpack.samplers.random_block import RandomBlock
from tokpack.samplers.sliding_window import SlidingWindow

LENGTHS = range(1, 121)


def store_of(length: int, offsets: np.ndarray | None = None) -> ArrayStore:
    """Token i is i + 1, so that a row shows where it came from and padding is told from data."""
    return ArrayStore(np.arange(1, length + 1, dtype=np.uint16), offsets, vocab_size=length + 2)


def seq_lens(length: int) -> list[int]:
    return [n for n in sorted({1, 2, 3, 7, 16, length // 2, length - 2, length - 1}) if 0 < n < length]


@pytest.mark.parametrize("length", LENGTHS)
def test_random_block_shows_each_window_of_the_grid_once(length: int) -> None:
    for seq_len in seq_lens(length):
        sampler = RandomBlock(store_of(length), seq_len=seq_len, seed=length)
        legal = length - seq_len
        assert sampler.rows_before(seq_len) == legal
        starts = sampler.starts(np.arange(legal))
        # Over a cycle of epochs every legal start comes once, the last token of the split as a label.
        assert np.array_equal(np.sort(starts), np.arange(legal))
        assert starts.max() + seq_len == length - 1
        for epoch in range(seq_len):
            cuts = np.sort(starts[sampler.rows_before(epoch) : sampler.rows_before(epoch + 1)])
            # Side by side, hence disjoint; nothing more would fit before, after or between.
            assert (np.diff(cuts) == seq_len).all()
            if len(cuts):
                assert cuts[0] < seq_len
                assert cuts[-1] + seq_len < length <= cuts[-1] + 2 * seq_len


@pytest.mark.parametrize("length", LENGTHS)
def test_sliding_window_starts_are_those_of_the_loop_everybody_writes(length: int) -> None:
    for seq_len in seq_lens(length):
        for stride in sorted({1, 2, 5, seq_len, seq_len + 3}):
            expected = list(range(0, length - seq_len, stride))
            for drop_last in (True, False):
                sampler = SlidingWindow(
                    store_of(length), seq_len=seq_len, stride=stride, shuffle=False, drop_last=drop_last
                )
                rows = np.arange(sampler.rows_before(1))
                starts, lengths = sampler.spans(rows)
                full = lengths == seq_len + 1
                assert starts[full].tolist() == expected
                assert full[: len(expected)].all()
                labels = {s + i for s, n in zip(starts, lengths, strict=True) for i in range(1, n)}
                if drop_last:
                    assert full.all()
                elif stride <= seq_len:
                    assert labels == set(range(1, length))


@pytest.mark.parametrize("length", range(6))
def test_a_split_shorter_than_one_row_is_refused(length: int) -> None:
    for sampler in (RandomBlock, SlidingWindow):
        with pytest.raises(UsageError, match=f"{length} tokens, but .* seq_len 5 needs 6; lower seq_len"):
            sampler(store_of(length), seq_len=5)


@pytest.mark.parametrize("length", LENGTHS[1:])
def test_ranks_share_out_an_epoch(length: int) -> None:
    seq_len = min(3, length - 1) or 1
    for shuffled in (RandomBlock, SlidingWindow):
        sampler = shuffled(store_of(length), seq_len=seq_len, seed=5)
        count = sampler.rows_before(1)
        whole = Batch.empty(count, seq_len, sampler.dtype)
        sampler.fill(np.arange(count), whole)
        for ranks in range(1, 9):
            parts = []
            for rank in range(ranks):
                rows = np.arange(rank, count, ranks)
                part = Batch.empty(len(rows), seq_len, sampler.dtype)
                sampler.fill(rows, part)
                parts.append(part.tokens)
            dealt = np.concatenate(parts)
            assert np.array_equal(
                dealt[np.argsort(dealt[:, 0])], whole.tokens[np.argsort(whole.tokens[:, 0])]
            )


def test_windows_within_documents_never_cross() -> None:
    rng = np.random.default_rng(0)
    for trial in range(200):
        lengths = rng.integers(0, 12, rng.integers(1, 12))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        seq_len, stride = int(rng.integers(1, 6)), int(rng.integers(1, 7))
        for drop_last in (True, False):
            expected = []
            for start, stop in itertools.pairwise(offsets.tolist()):
                at = start
                while at + seq_len < stop:
                    expected.append((at, seq_len + 1))
                    at += stride
                reached = at - stride + seq_len if at > start else start
                if not drop_last and reached < stop - 1 and at < stop - 1:
                    expected.append((at, stop - at))
            store = store_of(int(offsets[-1]), offsets)
            try:
                sampler = SlidingWindow(
                    store,
                    seq_len=seq_len,
                    stride=stride,
                    within="documents",
                    shuffle=False,
                    drop_last=drop_last,
                )
            except UsageError:
                assert not expected, trial
                continue
            assert (
                list(zip(*(part.tolist() for part in sampler.spans(np.arange(len(expected)))), strict=True))
                == expected
            )
            batch = Batch.empty(len(expected), seq_len, sampler.dtype, segmented=sampler.segmented)
            sampler.fill(np.arange(len(expected)), batch)
            for row, (start, length) in enumerate(expected):
                assert batch.tokens[row, :length].tolist() == list(range(start + 1, start + length + 1))
                assert not batch.tokens[row, length:].any()
                if batch.segment_ids is not None:
                    assert batch.segment_ids[row].tolist() == [1] * length + [0] * (seq_len + 1 - length)
