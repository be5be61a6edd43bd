"""Mixtures: within one row of quota at every prefix, each dataset through its own rows in order."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokpack.batches import Batch
from tokpack.dataset.store import ArrayStore
from tokpack.errors import MismatchError, TokpackError, UsageError
from tokpack.protocols import SamplerOptions
from tokpack.samplers import empty_batch
from tokpack.samplers.epochs import epochs_at
from tokpack.samplers.mixture import MAX_PERIOD, Mixture, open_mixture, schedule, whole_shares
from tokpack.samplers.random_block import RandomBlock
from tokpack.samplers.sliding_window import SlidingWindow


def sampler_of(length: int, first: int = 0, tokenizer: str = "t", seq_len: int = 4) -> RandomBlock:
    tokens = np.arange(first, first + length, dtype=np.uint16)
    return RandomBlock(
        ArrayStore(tokens, vocab_size=60_000, tokenizer_fingerprint=tokenizer), seq_len=seq_len
    )


@settings(max_examples=200)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12))
def test_every_prefix_is_within_one_row_of_its_quota(counts: list[int]) -> None:
    places = schedule(counts)
    period = sum(counts)
    assert np.bincount(places, minlength=len(counts)).tolist() == counts
    had = np.cumsum(places[:, None] == np.arange(len(counts)), axis=0)
    quota = np.arange(1, period + 1)[:, None] * np.array(counts) / period
    assert (np.abs(had - quota) < 1).all()


def test_the_hard_case_of_one_large_and_many_small_parts() -> None:
    counts = [5000, *[100] * 50]
    had = np.cumsum(schedule(counts)[:, None] == np.arange(51), axis=0)
    quota = np.arange(1, MAX_PERIOD + 1)[:, None] * np.array(counts) / MAX_PERIOD
    assert np.abs(had - quota).max() < 1


def test_weights_are_read_as_written() -> None:
    assert whole_shares({"a": 0.7, "b": 0.3}) == {"a": 7, "b": 3}
    assert whole_shares({"a": 2, "b": "1/2", "c": Fraction(1, 2)}) == {"a": 4, "b": 1, "c": 1}
    assert whole_shares({"a": "1e-1", "b": 0.9}) == {"a": 1, "b": 9}
    assert whole_shares({"only": 0.123456789}) == {"only": 1}


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=9))
def test_shares_are_within_one_ten_thousandth(sizes: list[int]) -> None:
    weights = {str(i): size for i, size in enumerate(sizes)}
    try:
        shares = whole_shares(weights)
    except UsageError as error:
        assert "below 1/10,000" in str(error)  # noqa: PT017
        assert min(sizes) / sum(sizes) < 1 / MAX_PERIOD
        return
    total = sum(shares.values())
    assert total <= MAX_PERIOD
    for name, size in weights.items():
        assert abs(Fraction(shares[name], total) - Fraction(size, sum(sizes))) < Fraction(1, MAX_PERIOD)


def test_each_dataset_goes_through_its_own_rows_and_epochs() -> None:
    parts = {"a": sampler_of(41), "b": sampler_of(401, first=1000), "c": sampler_of(4001, first=5000)}
    mixture = Mixture(parts, {"a": 0.5, "b": 0.3, "c": 0.2})
    count = 3000
    mixed = Batch.empty(count, 4, mixture.dtype)
    mixture.fill(np.arange(count), mixed)
    for name, low, high in [("a", 0, 41), ("b", 1000, 1401), ("c", 5000, 9001)]:
        mine = mixed.tokens[(mixed.tokens[:, 0] >= low) & (mixed.tokens[:, 0] < high)]
        assert len(mine) == mixture.rows_of_parts(count)[name]
        alone = Batch.empty(len(mine), 4, mixture.dtype)
        parts[name].fill(np.arange(len(mine)), alone)
        assert np.array_equal(mine, alone.tokens)
    epochs = mixture.epochs_of_parts(count)
    assert epochs["a"] == pytest.approx(1500 / 9.25, rel=0.01)
    assert epochs["b"] == pytest.approx(900 / 99.25, rel=0.01)
    assert epochs["c"] == pytest.approx(0.6, rel=0.01)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=30))
def test_a_row_does_not_depend_on_the_others_asked_for(rows: list[int]) -> None:
    mixture = Mixture({"a": sampler_of(41), "b": sampler_of(401, first=1000)}, {"a": 1, "b": 2})
    together, alone = (Batch.empty(len(rows), 4, mixture.dtype) for _ in range(2))
    mixture.fill(np.array(rows), together)
    for i, row in enumerate(rows):
        mixture.fill(np.array([row]), alone[i : i + 1])
    assert np.array_equal(together.tokens, alone.tokens)


def test_an_epoch_ends_when_every_dataset_has_ended_its_own() -> None:
    mixture = Mixture({"a": sampler_of(41), "b": sampler_of(401, first=1000)}, {"a": 1, "b": 2})
    assert mixture.rows_before(0) == 0
    for epoch in (1, 2, 7):
        end = mixture.rows_before(epoch)
        assert min(mixture.epochs_of_parts(end).values()) >= epoch
        assert min(mixture.epochs_of_parts(end - 1).values()) < epoch


def test_rows_with_and_without_segments_mix() -> None:
    store = ArrayStore(np.arange(100, 107, dtype=np.uint16), vocab_size=60_000, tokenizer_fingerprint="t")
    padded = SlidingWindow(store, seq_len=4, drop_last=False, shuffle=False)
    mixture = Mixture({"a": sampler_of(41), "b": padded}, {"a": 1, "b": 1})
    batch = Batch.empty(8, 4, mixture.dtype, segmented=mixture.segmented)
    mixture.fill(np.arange(8), batch)
    assert batch.segment_ids is not None
    from_b = batch.tokens[:, 0] >= 100
    assert (batch.segment_ids[~from_b] == 1).all()
    assert batch.segment_ids[from_b].tolist() == [[1] * 5, [1] * 3 + [0] * 2] * 2


def test_rows_with_and_without_a_loss_mask_mix() -> None:
    tokens = np.arange(100, 149, dtype=np.uint16)
    mask = (tokens % 2).astype(np.uint8)
    chat = ArrayStore(tokens, loss_mask=mask, vocab_size=60_000, tokenizer_fingerprint="t")
    mixture = Mixture({"a": sampler_of(41), "b": RandomBlock(chat, seq_len=4)}, {"a": 1, "b": 1})
    batch = empty_batch(mixture, 8)
    mixture.fill(np.arange(8), batch)
    assert batch.loss_mask is not None
    from_b = batch.tokens[:, 0] >= 100
    assert (batch.loss_mask[~from_b] == 1).all()
    assert (batch.loss_mask[from_b] == batch.tokens[from_b] % 2).all()


def test_identity_changes_with_anything_that_decides_the_rows() -> None:
    parts = {"a": sampler_of(41), "b": sampler_of(401)}
    mixtures = [
        Mixture(parts, {"a": 1, "b": 1}),
        Mixture(parts, {"a": 1, "b": 2}),
        Mixture(parts | {"b": sampler_of(402)}, {"a": 1, "b": 1}),
        Mixture({"b": parts["b"], "a": parts["a"]}, {"a": 1, "b": 1}),  # which of them comes first
    ]
    assert len({json.dumps(mixture.identity) for mixture in mixtures}) == len(mixtures)
    renamed = Mixture({"x": parts["a"], "y": parts["b"]}, {"x": 1, "y": 1})
    assert renamed.identity == mixtures[0].identity  # a dataset may be moved


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda a, b: Mixture({"a": a, "b": b}, {"a": 1, "b": 0}),
            UsageError,
            "weight of 'b' is 0; give more",
        ),
        (lambda a, b: Mixture({"a": a, "b": b}, {"a": 1, "b": -1}), UsageError, "weight of 'b' is -1"),
        (lambda a, b: Mixture({"a": a, "b": b}, {"a": 1, "b": "x"}), UsageError, "write a number"),
        (lambda a, b: Mixture({"a": a, "b": b}, {"a": 1, "b": float("nan")}), UsageError, "write a number"),
        (lambda a, b: Mixture({"a": a, "b": b}, {"a": 1}), UsageError, "'b' has no weight"),
        (lambda a, b: Mixture({"a": a, "b": b}, {"a": 1, "b": 1e-9}), UsageError, "below 1/10,000"),
        (lambda a, b: Mixture({}, {}), UsageError, "at least one dataset"),
        (
            lambda a, b: Mixture({"a": a, "b": sampler_of(50, tokenizer="u")}, {"a": 1, "b": 1}),
            MismatchError,
            "'a' and 'b' were written by different tokenizers .*'t' and 'u'",
        ),
        (
            lambda a, b: Mixture({"a": a, "b": sampler_of(50, seq_len=5)}, {"a": 1, "b": 1}),
            UsageError,
            "rows of 4 tokens and 'b' of 5",
        ),
    ],
)
def test_what_cannot_be_mixed_is_named(make, error: type[TokpackError], message: str) -> None:
    with pytest.raises(error, match=message):
        make(sampler_of(41), sampler_of(401))


@settings(max_examples=50)
@given(st.integers(2, 60), st.integers(0, 10**15), st.data())
def test_epochs_at_inverts_rows_before(length: int, row: int, data: st.DataObject) -> None:
    sampler = sampler_of(length, seq_len=data.draw(st.integers(1, length - 1)))
    epoch = int(epochs_at(sampler, row))
    if row < 10**9:  # beyond, the fraction of a float is too coarse
        assert sampler.rows_before(epoch) <= row < sampler.rows_before(epoch + 1)
    assert epochs_at(sampler, 0) < 1 or sampler.rows_before(1) == 0


def test_open_mixture_opens_each_part_through_the_registry() -> None:
    stores = {
        name: ArrayStore(np.arange(length, dtype=np.uint16), vocab_size=60_000, tokenizer_fingerprint="t")
        for name, length in (("a", 41), ("b", 401))
    }
    options = SamplerOptions(4, seed=3, options={"stride": 2})
    mixture = open_mixture("sliding-window", stores, {"a": 1, "b": 3}, options)
    assert mixture.identity["sampler"] == "mixture/1 of sliding-window/1"
    assert mixture.samplers["b"].rows_before(1) == 199
    with pytest.raises(UsageError, match="weight of 'a' is 0"):
        open_mixture("no-such-sampler", stores, {"a": 0, "b": 3}, options)
