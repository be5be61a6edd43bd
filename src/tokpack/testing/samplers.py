"""What every sampler must do."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from tokpack.batches import Batch, offsets_from_lengths
from tokpack.dataset.store import ArrayStore
from tokpack.errors import UsageError
from tokpack.plugins import discover
from tokpack.protocols import Sampler, SamplerOptions, TokenStore
from tokpack.samplers import empty_batch
from tokpack.specs import SamplerSpec, load
from tokpack.testing.rules import in_threads

__all__ = ["SamplerConformance"]

_SEQ_LEN = 16


class SamplerConformance:
    """Subclass it, set ``name``, and pytest does the rest."""

    #: Name of the sampler in the registry.
    name: ClassVar[str]
    #: Options under test, as `SamplerOptions.options`.
    options: ClassVar[Mapping[str, str | int | float | bool]] = {}

    @pytest.fixture
    def spec(self) -> SamplerSpec:
        """The record under test; by default the one that is installed."""
        return discover().samplers[self.name]

    @pytest.fixture
    def store(self) -> TokenStore:
        """A split in which every token is its own position, so that a row says where it is from."""
        lengths = np.random.default_rng(7).integers(1, 60, 100)
        offsets = offsets_from_lengths(lengths, len(lengths))
        return ArrayStore(np.arange(offsets[-1], dtype=np.uint16), offsets, vocab_size=2**16)

    def sampler(self, spec: SamplerSpec, store: TokenStore, *, seed: int = 0) -> Sampler:
        """Open the sampler under test."""
        sampler: Sampler = load(spec.open)(store, SamplerOptions(_SEQ_LEN, seed, self.options))
        return sampler

    def test_a_row_is_a_function_of_its_number(self, spec: SamplerSpec, store: TokenStore) -> None:
        """Any order, any batching, any number of times, from any epoch: the same rows."""
        sampler = self.sampler(spec, store)
        numbers = np.arange(sampler.rows_before(2) + 3)
        tokens, segments = _rows(sampler, numbers)
        shuffled = np.random.default_rng(1).permutation(numbers)
        for chunk in np.array_split(shuffled, 7):
            again, again_segments = _rows(sampler, chunk)
            assert again.tolist() == tokens[chunk].tolist()
            assert again_segments.tolist() == segments[chunk].tolist()
        repeated, _ = _rows(sampler, np.array([5, 5, 0]))
        assert repeated.tolist() == tokens[[5, 5, 0]].tolist()

    def test_a_new_sampler_gives_the_same_rows(self, spec: SamplerSpec, store: TokenStore) -> None:
        """Nothing but data, parameters and seed decides; a copy in a worker agrees."""
        first = self.sampler(spec, store)
        numbers = np.arange(20)
        for other in (self.sampler(spec, store), pickle.loads(pickle.dumps(first))):
            assert _rows(other, numbers)[0].tolist() == _rows(first, numbers)[0].tolist()
            assert dict(other.identity) == dict(first.identity)

    def test_every_cell_is_written(self, spec: SamplerSpec, store: TokenStore) -> None:
        """``fill`` leaves nothing of what was in the caller's memory, and writes into views as well."""
        sampler = self.sampler(spec, store)
        numbers = np.arange(sampler.rows_before(1))
        wanted, wanted_segments = _rows(sampler, numbers, filler=0)
        found, found_segments = _rows(sampler, numbers, filler=0xFFFF)
        assert found.tolist() == wanted.tolist()
        assert found_segments.tolist() == wanted_segments.tolist()
        large = empty_batch(sampler, len(numbers) + 2)
        large.tokens[:] = 9
        sampler.fill(numbers, large[1:-1])
        assert large.tokens[1:-1].tolist() == wanted.tolist()
        assert (large.tokens[[0, -1]] == 9).all()

    def test_rows_are_traced(self, spec: SamplerSpec, store: TokenStore) -> None:
        """``trace`` names every token that `fill` writes, the one after the row included; not padding."""
        sampler = self.sampler(spec, store)
        tokens, segments = _rows(sampler, np.arange(sampler.rows_before(1)))
        for number, (row, segment) in enumerate(zip(tokens, segments, strict=True)):
            pieces = [span.store.read(span.start, span.stop).tolist() for span in sampler.trace(number)]
            origin = [token for piece in pieces for token in piece]
            assert origin == row[segment > 0].tolist(), number

    def test_claim_segmented(self, spec: SamplerSpec, store: TokenStore) -> None:
        """Segments count from 1 without gaps, and padding, 0, only ends a row; loss never crosses them."""
        sampler = self.sampler(spec, store)
        if not sampler.segmented:
            batch = Batch.empty(4, _SEQ_LEN, sampler.dtype)
            sampler.fill(np.arange(4), batch)
            assert batch.segment_ids is None
            return
        _, segments = _rows(sampler, np.arange(sampler.rows_before(1)))
        for row in segments.astype(np.int64):
            real = row[: np.count_nonzero(row)]
            assert (real > 0).all(), "padding stands in the middle of a row"
            assert real.size == 0 or (real[0] == 1 and np.isin(np.diff(real), (0, 1)).all())

    def test_claim_masked(self, spec: SamplerSpec, store: TokenStore) -> None:
        """Rows carry the mask of a store that has one, token by token; padding is left out of the loss."""
        assert not self.sampler(spec, store).masked
        tokens = store.read(0, len(store))
        counts = (tokens % 3 == 0).astype(np.uint8)
        sampler = self.sampler(spec, ArrayStore(tokens, store.offsets, loss_mask=counts, vocab_size=2**16))
        assert sampler.masked, "the store has a loss mask, the rows do not"
        batch = empty_batch(sampler, sampler.rows_before(1))
        assert batch.loss_mask is not None
        batch.loss_mask[:] = 7
        sampler.fill(np.arange(len(batch)), batch)
        wanted = counts[batch.tokens]
        if batch.segment_ids is not None:
            wanted[batch.segment_ids == 0] = 0
        assert batch.loss_mask.tolist() == wanted.tolist()

    def test_epochs_follow_each_other(self, spec: SamplerSpec, store: TokenStore) -> None:
        """Epoch 0 begins at row 0, and every epoch has rows."""
        sampler = self.sampler(spec, store)
        starts = [sampler.rows_before(epoch) for epoch in range(6)]
        assert starts[0] == 0
        assert all(before < after for before, after in itertools.pairwise(starts))

    def test_identity(self, spec: SamplerSpec, store: TokenStore) -> None:
        """It survives JSON, names what it must, and tells seeds and data apart."""
        identity = dict(self.sampler(spec, store).identity)
        assert json.loads(json.dumps(identity)) == identity
        assert {"sampler", "seq_len", "seed", "dataset", "tokenizer"} <= identity.keys()
        assert dict(self.sampler(spec, store, seed=1).identity) != identity
        other = ArrayStore(store.read(0, len(store)) // 2, store.offsets, vocab_size=2**16)
        assert dict(self.sampler(spec, other).identity) != identity

    def test_what_it_says_of_itself(self, spec: SamplerSpec, store: TokenStore) -> None:
        """Length, dtype and vocabulary are those of the request and the store."""
        sampler = self.sampler(spec, store)
        assert sampler.seq_len == _SEQ_LEN
        assert sampler.dtype == store.dtype
        assert sampler.vocab_size == store.vocab_size

    def test_threads_agree(self, spec: SamplerSpec, store: TokenStore) -> None:
        """One sampler serves many threads."""
        sampler = self.sampler(spec, store)
        numbers = np.arange(sampler.rows_before(2))
        wanted = _rows(self.sampler(spec, store), numbers)[0].tolist()
        assert all(found.tolist() == wanted for found, _ in in_threads(lambda: _rows(sampler, numbers)))

    def test_nonsense_options_are_refused(self, spec: SamplerSpec, store: TokenStore) -> None:
        """An option that the record announces is read, and refused by a `UsageError` if it says nothing."""
        for option in spec.options:
            given = SamplerOptions(_SEQ_LEN, 0, {**self.options, option: "no such value"})
            with pytest.raises(UsageError, match="no such value"):
                load(spec.open)(store, given)


def _rows(
    sampler: Sampler, numbers: NDArray[np.int64], *, filler: int = 1
) -> tuple[NDArray[Any], NDArray[np.uint16]]:
    """Return tokens and segment ids of rows, both (rows, seq_len + 1); one segment where there are none."""
    batch = empty_batch(sampler, len(numbers))
    batch.tokens[:] = filler
    if batch.segment_ids is not None:
        batch.segment_ids[:] = filler
    sampler.fill(numbers.astype(np.int64), batch)
    segments = np.ones(batch.tokens.shape, np.uint16) if batch.segment_ids is None else batch.segment_ids
    return batch.tokens, segments
