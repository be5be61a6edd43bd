"""One fault for every rule of `SourceConformance`, each put into the text source."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tokpack.batches import TextBatch
from tokpack.errors import StorageError
from tokpack.plugins import discover
from tokpack.protocols import SourceBatch, SourceOptions
from tokpack.sources.text import TextSource
from tokpack.testing import SourceConformance

CALLS = itertools.count()


class Lines(TextSource):
    """A sound source, to be made faulty."""

    def batches(self, part):
        return super().read(part)

    def read(self, part):
        return self.batches(part)


def map_texts(batches, change):
    for batch in batches:
        texts = TextBatch.from_texts([change(text) for text in batch.texts])
        yield SourceBatch(texts, batch.positions, batch.problems)


class Suite(SourceConformance):
    name, suffix = "text", ".txt"
    options = SourceOptions(split="separator", separator="|")
    texts = SourceConformance.texts.filter(lambda text: "|" not in text)
    holds_empty = False
    opener = "sound"

    @pytest.fixture
    def spec(self):
        module = __name__.rpartition(".")[2]
        return replace(discover().sources["text"], open=f"{module}:{self.opener}")

    def write(self, path, documents):
        path.write_bytes("|".join(documents).encode())


def sound(options):
    return Lines(options, options.separator.encode())


class HealthySource(Suite):
    pass


class Stripping(Lines):
    def read(self, part):
        return map_texts(self.batches(part), str.strip)


def stripping(options):
    return Stripping(options, b"|")


class MutantStrips(Suite):
    kills, opener = "test_documents_come_back", "stripping"


class Cutting(Lines):
    def read(self, part):
        with open(part.path, "rb") as file:  # noqa: PTH123
            file.seek(part.start)
            pieces = [piece for piece in file.read(part.stop - part.start).split(b"|") if piece]
        yield SourceBatch(
            TextBatch.from_texts([piece.decode(errors="replace") for piece in pieces]),
            np.arange(len(pieces), dtype=np.int64) + part.start,
        )


def cutting(options):
    return Cutting(options, b"|")


class MutantCutsAtSlices(Suite):
    kills, opener = "test_slices_never_matter", "cutting"


class Dropping(Lines):
    def read(self, part):
        for batch in self.batches(part):
            texts = list(batch.texts)[: len(batch.texts) - (self.options.batch_bytes < 100)]
            yield SourceBatch(TextBatch.from_texts(texts), batch.positions[: len(texts)])


def dropping(options):
    return Dropping(options, b"|")


class MutantDropsTheLastOfABatch(Suite):
    kills, opener = "test_batches_never_matter", "dropping"


def hoarding(options):
    return Lines(replace(options, batch_bytes=1 << 30), b"|")


class MutantHoards(Suite):
    kills, opener = "test_batches_are_bounded", "hoarding"


class Careless(Lines):
    def plan(self, path, *, slice_bytes):
        return [
            part._replace(byte_stop=part.byte_stop - 1)
            for part in super().plan(path, slice_bytes=slice_bytes)
        ]


def careless(options):
    return Careless(options, b"|")


class MutantLosesAByte(Suite):
    kills, opener = "test_slices_share_out_all_bytes", "careless"


class Moody(Lines):
    def plan(self, path, *, slice_bytes):
        return super().plan(path, slice_bytes=slice_bytes + next(CALLS) % 2 * 1000)


def moody(options):
    return Moody(options, b"|")


class MutantPlansByMood(Suite):
    kills, opener = "test_the_plan_is_pure", "moody"


class Local(Lines):
    def __reduce__(self):
        return (stripping, (self.options,))


def local(options):
    return Local(options, b"|")


class MutantPicklesAnother(Suite):
    kills, opener = "test_it_pickles", "local"


class Nowhere(Lines):
    def read(self, part):
        for batch in self.batches(part):
            yield SourceBatch(batch.texts, np.zeros_like(batch.positions), batch.problems)


def nowhere(options):
    return Nowhere(options, b"|")


class MutantHasNoPositions(Suite):
    kills, opener = "test_positions_rise", "nowhere"


def generous(options):
    return Lines(replace(options, max_document_bytes=1 << 30), b"|")


class MutantReadsAnything(Suite):
    kills, opener = "test_a_document_too_large", "generous"


class Silent(Lines):
    def plan(self, path, *, slice_bytes):
        try:
            return super().plan(path, slice_bytes=slice_bytes)
        except StorageError:
            return []


def silent(options):
    return Silent(options, b"|")


class MutantSeesNoFile(Suite):
    kills, opener = "test_no_such_file", "silent"


class Chatty(Lines):
    def describe(self, path):
        return "split\nat |"


def chatty(options):
    return Chatty(options, b"|")


class MutantTalksTooMuch(Suite):
    kills, opener = "test_it_describes_itself", "chatty"


class MutantHasAnotherSuffix(Suite):
    kills, suffix = "test_claim_suffixes", ".pdf"
