"""`packed`: rows, segments, labels and positions, told from the documents alone and not from the plan."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tokpack.batches import Batch, offsets_from_lengths
from tokpack.dataset.store import ArrayStore
from tokpack.errors import UsageError
from tokpack.protocols import SamplerOptions
from tokpack.samplers import open_sampler
from tokpack.samplers.packed import Packed
from tokpack.samplers.packing import STRATEGIES

LENGTHS = st.lists(st.integers(1, 40), min_size=2, max_size=40)
POLICIES = ("split", "truncate", "drop")


def store_of(lengths: list[int]) -> ArrayStore:
    """Documents whose tokens are their own positions, so that every token tells where it is from."""
    offsets = offsets_from_lengths(lengths, len(lengths))
    return ArrayStore(np.arange(offsets[-1], dtype=np.uint32), offsets, vocab_size=2**32)


def read(sampler: Packed, first: int, count: int) -> Batch:
    batch = Batch.empty(count, sampler.seq_len, sampler.dtype, segmented=True)
    batch.tokens[...] = 77  # what `fill` leaves out would show
    assert batch.segment_ids is not None
    batch.segment_ids[...] = 99
    sampler.fill(np.arange(first, first + count), batch)
    return batch


def epoch(sampler: Packed, number: int = 0) -> Batch:
    first, last = sampler.rows_before(number), sampler.rows_before(number + 1)
    return read(sampler, first, last - first)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("policy", POLICIES)
@given(lengths=LENGTHS, seq_len=st.integers(2, 16))
def test_rows_segments_labels_and_positions(
    strategy: str, policy: str, lengths: list[int], seq_len: int
) -> None:
    assume(sum(lengths) >= seq_len)
    assume(policy != "drop" or min(lengths) <= seq_len)
    store = store_of(lengths)
    sampler = Packed(store, seq_len=seq_len, strategy=strategy, long_documents=policy)
    batch = epoch(sampler)
    assert batch.segment_ids is not None
    segments, labels, positions = batch.segment_ids[:, :-1], batch.labels(), batch.position_ids()
    document = np.repeat(np.arange(len(lengths)), lengths)

    shown = []
    for row in range(len(batch)):
        ids = segments[row]
        used = int((ids > 0).sum())
        assert (ids[used:] == 0).all()
        assert (batch.tokens[row, used + 1 :] == 0).all()
        assert (labels[row, used:] == -100).all()
        cuts = [0, *(np.flatnonzero(np.diff(ids[:used])) + 1).tolist(), used]
        assert [int(ids[cut]) for cut in cuts[:-1]] == list(range(1, len(cuts)))
        for begin, end in pairwise(cuts):
            tokens = batch.input_ids[row, begin:end]
            assert (np.diff(tokens.astype(np.int64)) == 1).all()
            assert len(set(document[tokens])) == 1
            assert positions[row, begin:end].tolist() == list(range(end - begin))
            assert labels[row, begin : end - 1].tolist() == tokens[1:].tolist()
            last = int(tokens[-1])
            follows = policy == "split" and end == seq_len and last + 1 not in store.offsets
            assert labels[row, end - 1] == (last + 1 if follows else -100)
            shown += tokens.tolist()

    whole = {"split": 10**9, "truncate": seq_len, "drop": seq_len}[policy]
    expected = [
        token
        for start, length in zip(store.offsets.tolist(), lengths, strict=False)
        if policy != "drop" or length <= seq_len
        for token in range(start, start + min(length, whole))
    ]
    assert sorted(shown) == expected


def test_rows_are_pure() -> None:
    rng = np.random.default_rng(3)
    sampler = Packed(store_of(rng.integers(1, 60, 400).tolist()), seq_len=32, seed=5)
    whole = read(sampler, 0, 300)
    other = pickle.loads(pickle.dumps(sampler))
    for _ in range(50):
        rows = rng.integers(0, 300, rng.integers(1, 20))
        batch = Batch.empty(len(rows), 32, sampler.dtype, segmented=True)
        other.fill(rows, batch)
        assert (batch.tokens == whole.tokens[rows]).all()
        assert (batch.segment_ids == whole.segment_ids[rows]).all()


def test_epochs_show_the_same_rows_in_another_order() -> None:
    store = store_of(np.random.default_rng(4).integers(1, 60, 200).tolist())
    sampler = Packed(store, seq_len=32)
    first, second = epoch(sampler, 0).tokens, epoch(sampler, 1).tokens
    assert sorted(map(tuple, first.tolist())) == sorted(map(tuple, second.tolist()))
    assert (first != second).any()
    other = epoch(Packed(store, seq_len=32, seed=1), 0).tokens
    assert (first != other).any()
    plain = Packed(store, seq_len=32, shuffle=False)
    assert (epoch(plain, 0).tokens == epoch(plain, 1).tokens).all()


def test_greedy_unshuffled_rows_follow_the_dataset() -> None:
    store = store_of([3, 4, 5, 9, 2])
    batch = epoch(Packed(store, seq_len=8, strategy="greedy", shuffle=False))
    assert batch.segment_ids is not None
    assert batch.tokens.tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 0, 0],
        [7, 8, 9, 10, 11, 0, 0, 0, 0],
        [12, 13, 14, 15, 16, 17, 18, 19, 20],
        [20, 21, 22, 0, 0, 0, 0, 0, 0],
    ]
    assert batch.segment_ids.tolist() == [
        [1, 1, 1, 2, 2, 2, 2, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 2, 2, 0, 0, 0, 0, 0, 0],
    ]


def test_trace_names_the_tokens_of_a_row() -> None:
    store = store_of(np.random.default_rng(6).integers(1, 60, 100).tolist())
    sampler = Packed(store, seq_len=32)
    batch = epoch(sampler)
    assert batch.segment_ids is not None
    lengths = set()
    for row in range(len(batch)):
        spans = sampler.trace(row)
        tokens = [token for span in spans for token in span.store.read(span.start, span.stop).tolist()]
        assert batch.tokens[row, : len(tokens)].tolist() == tokens
        assert (batch.segment_ids[row] > 0).sum() == len(tokens)
        lengths.add(len(tokens))
    assert {32, 33} <= lengths  # rows that a long document fills, and rows that it ends in


def test_opens_by_name_with_options_as_words() -> None:
    store = store_of([5, 50, 7, 9])
    options = {"strategy": "pool", "long-documents": "truncate", "shuffle": "false"}
    sampler = open_sampler("packed", store, SamplerOptions(16, seed=7, options=options))
    identity = dict(sampler.identity)
    assert identity.pop("sampler").startswith("packed/")
    assert identity == {
        "seq_len": 16,
        "seed": 7,
        "strategy": "pool",
        "long_documents": "truncate",
        "shuffle": False,
        "dataset": store.fingerprint,
        "tokenizer": "",
    }


@pytest.mark.parametrize(
    ("lengths", "seq_len", "options", "message"),
    [
        ([5, 6], 12, {}, r"holds 11 tokens, but one row has 12"),
        ([50], 12, {}, r"one document of 50 tokens"),
        ([5, 0, 9, 0, 0], 12, {}, r"document 1 of the split is empty, and 2 more.*empty_documents=skip"),
        ([5, 6], 1, {}, r"seq_len is 1"),
        ([50, 60], 12, {"long_documents": "drop"}, r"no document of the split has at most 12 tokens"),
        ([5, 60], 12, {"long_documents": "crop"}, r"'crop'.*split, truncate, drop"),
        ([5, 60], 12, {"strategy": "best"}, r"'best'.*best-fit"),
        ([5, 60], 12, {"empty_documents": "ignore"}, r"empty_documents is 'ignore'.*error, skip"),
        ([5, 60], 12, {"stride": 3}, r"no option 'stride'"),
        ([1] * 70_000, 66_000, {}, r"66,000 documents.*65,535"),
    ],
)
def test_bad_input_is_named_before_the_first_batch(
    lengths: list[int], seq_len: int, options: dict[str, str | int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        open_sampler("packed", store_of(lengths), SamplerOptions(seq_len, options=options))


def test_empty_documents_can_be_skipped() -> None:
    options = {"empty_documents": "skip"}
    sampler = open_sampler("packed", store_of([5, 0, 9, 0]), SamplerOptions(8, options=options))
    assert isinstance(sampler, Packed)
    assert sampler.plan.ledger.empty_documents == 2
    assert np.count_nonzero(epoch(sampler).segment_ids[:, :-1]) == 14  # type: ignore[index]
