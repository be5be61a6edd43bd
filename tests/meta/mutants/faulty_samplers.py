"""One fault for every rule of `SamplerConformance`."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from tokpack.protocols import Span
from tokpack.specs import SamplerSpec
from tokpack.testing import SamplerConformance

INSTANCES = itertools.count()


class Stream:
    """Windows side by side, in order, each with its documents as segments: a sound sampler."""

    segmented = True
    memory_mapped = True

    def __init__(self, store, options):
        self.store, self.seq_len, self.seed = store, options.seq_len, options.seed
        self.dtype, self.vocab_size = store.dtype, store.vocab_size
        self.rows = len(store) // (self.seq_len + 1)
        self.masked = store.loss_mask is not None

    @property
    def identity(self):
        return {
            "sampler": "stream/1",
            "seq_len": self.seq_len,
            "seed": self.seed,
            "dataset": self.store.fingerprint,
            "tokenizer": self.store.tokenizer_fingerprint,
        }

    def rows_before(self, epoch):
        return self.rows * epoch

    def starts(self, rows):
        return (rows % self.rows) * (self.seq_len + 1)

    def fill(self, rows, out):
        starts = self.starts(rows)
        self.store.gather(starts, out.tokens)
        if out.loss_mask is not None:
            self.store.loss_mask.gather(starts, out.loss_mask)
        document = np.searchsorted(self.store.offsets, starts[:, None] + np.arange(self.seq_len + 1), "right")
        out.segment_ids[:] = np.cumsum(np.diff(document, axis=1, prepend=document[:, :1] - 1) > 0, axis=1)

    def trace(self, row):
        start = int(self.starts(np.array([row]))[0])
        return (Span(self.store, start, start + self.seq_len + 1),)


class Suite(SamplerConformance):
    opener = "Stream"

    @pytest.fixture
    def spec(self):
        return SamplerSpec("stream", "windows", open=f"{__name__.rpartition('.')[2]}:{self.opener}")


class HealthySampler(Suite):
    pass


class Cursor(Stream):
    position = 0

    def starts(self, rows):
        self.position += 1
        return super().starts(rows + self.position)


class MutantHasACursor(Suite):
    kills, opener = "test_a_row_is_a_function_of_its_number", "Cursor"


class Lucky(Stream):
    def __init__(self, store, options):
        super().__init__(store, options)
        self.luck = next(INSTANCES)

    def starts(self, rows):
        return super().starts(rows + self.luck)


class MutantDrawsItsOwnSeed(Suite):
    kills, opener = "test_a_new_sampler_gives_the_same_rows", "Lucky"


class Lazy(Stream):
    def fill(self, rows, out):
        last = out.tokens[:, -1].copy()
        super().fill(rows, out)
        out.tokens[:, -1] = last


class MutantLeavesACell(Suite):
    kills, opener = "test_every_cell_is_written", "Lazy"


class Replacing(Stream):
    def fill(self, rows, out):
        fresh = type(out).empty(len(out), self.seq_len, self.dtype, segmented=True)
        super().fill(rows, fresh)
        if not out.tokens.flags.owndata:
            return
        out.tokens[:], out.segment_ids[:] = fresh.tokens, fresh.segment_ids


class MutantIgnoresViews(Suite):
    kills, opener = "test_every_cell_is_written", "Replacing"


class Shifted(Stream):
    def trace(self, row):
        [span] = super().trace(row)
        return (span._replace(start=span.start + 1, stop=span.stop + 1),)


class MutantTracesTheNext(Suite):
    kills, opener = "test_rows_are_traced", "Shifted"


class Gaps(Stream):
    def fill(self, rows, out):
        super().fill(rows, out)
        out.segment_ids[:] *= 2


class MutantCountsByTwos(Suite):
    kills, opener = "test_claim_segmented", "Gaps"


class Secretive(Stream):
    segmented = False

    def fill(self, rows, out):
        self.store.gather(self.starts(rows), out.tokens)
        object.__setattr__(out, "segment_ids", np.ones(out.tokens.shape, np.uint16))


class MutantWritesSegmentsUnasked(Suite):
    kills, opener = "test_claim_segmented", "Secretive"


class Deaf(Stream):
    masked = property(lambda self: False, lambda self, value: None)


class MutantKnowsNoMask(Suite):
    kills, opener = "test_claim_masked", "Deaf"


class Shift(Stream):
    def fill(self, rows, out):
        super().fill(rows, out)
        if out.loss_mask is not None:  # as if it said which inputs have a label that counts
            out.loss_mask[:, :-1] = out.loss_mask[:, 1:]


class MutantShiftsTheMask(Suite):
    kills, opener = "test_claim_masked", "Shift"


class Endless(Stream):
    def rows_before(self, epoch):
        return self.rows * min(epoch, 2)


class MutantEpochsEnd(Suite):
    kills, opener = "test_epochs_follow_each_other", "Endless"


class Nameless(Stream):
    @property
    def identity(self):
        return {**super().identity, "seed": 0}


class MutantForgetsItsSeed(Suite):
    kills, opener = "test_identity", "Nameless"


class Longer(Stream):
    vocab_size = property(lambda self: self.store.vocab_size + 1, lambda self, value: None)


class MutantHasAnotherVocabulary(Suite):
    kills, opener = "test_what_it_says_of_itself", "Longer"


class Sharing(Stream):
    def fill(self, rows, out):
        self.current = rows + 1
        mine = self.current
        time.sleep(0.01)
        super().fill(self.current - 1 + (self.current is not mine), out)


class MutantSharesState(Suite):
    kills, opener = "test_threads_agree", "Sharing"


class MutantReadsNoOption(Suite):
    kills = "test_nonsense_options_are_refused"

    @pytest.fixture
    def spec(self):
        module = __name__.rpartition(".")[2]
        return SamplerSpec("stream", "windows", open=f"{module}:Stream", options=("stride",))
