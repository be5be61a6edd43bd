"""``mixture``: rows of several datasets in fixed proportions, exact at every point of a run."""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from hashlib import sha256
from math import lcm
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import Batch
from tokpack.errors import MismatchError, UsageError
from tokpack.plugins import Plugins
from tokpack.protocols import Sampler, SamplerOptions, Span, TokenStore
from tokpack.samplers import empty_batch, open_sampler
from tokpack.samplers.epochs import epochs_at

__all__ = ["MAX_PERIOD", "Mixture", "check_tokenizers", "open_mixture", "schedule", "whole_shares"]

Weight: TypeAlias = float | str | Fraction

#: Longest pattern of rows before it repeats, hence the precision of weights: multiples of 1/10,000.
MAX_PERIOD = 10_000


class Mixture:
    """Rows of several samplers, interleaved in the proportion of their weights.

    A fixed pattern says which sampler each row comes from. After any number of rows each sampler has had its
    share of them to less than one row, so the proportions hold from the first step to the last. Each sampler
    goes through its own rows in order and so through its own epochs, however long the others take.

    ``samplers`` and ``weights`` are by the name of the dataset. Weights need not add up to one; what is not
    a multiple of 1/10,000 of their sum is rounded to one.

    Raises:
        UsageError: a weight that is zero, negative or too small, or samplers of different row lengths.
        MismatchError: the datasets were written by different tokenizers.
    """

    def __init__(
        self, samplers: Mapping[str, Sampler], weights: Mapping[str, float | str | Fraction]
    ) -> None:
        self.samplers = dict(samplers)
        self.shares = whole_shares(weights)
        if missing := self.samplers.keys() ^ self.shares.keys():
            raise UsageError(f"{min(missing)!r} has no weight or no dataset; give each dataset one weight")
        self._parts = list(self.samplers.values())
        first = self._parts[0]
        _check_equal(self.samplers)
        self.seq_len = first.seq_len
        self.dtype: np.dtype[Any] = first.dtype
        self.vocab_size = first.vocab_size
        self.memory_mapped = all(part.memory_mapped for part in self._parts)
        self.segmented = any(part.segmented for part in self._parts)
        self.masked = any(part.masked for part in self._parts)
        counts = [self.shares[name] for name in self.samplers]
        self._counts = np.array(counts, np.int64)
        self._period = sum(counts)
        #: Which part each row of the pattern comes from, and how many rows of that part came before.
        self._part_of = schedule(counts)
        self._number_of = np.empty(self._period, np.int64)
        for part, count in enumerate(counts):
            self._number_of[self._part_of == part] = np.arange(count)

    @property
    def identity(self) -> Mapping[str, str | int]:
        """Everything that decides the rows; the parts' own identities as one digest."""
        # Names are left out: a dataset may be moved.
        parts = [{"share": self.shares[name], **part.identity} for name, part in self.samplers.items()]
        first = self._parts[0].identity
        return {
            "sampler": f"mixture/1 of {first['sampler']}",
            "seq_len": self.seq_len,
            "seed": first["seed"],
            "weights": ":".join(str(count) for count in self.shares.values()),
            "dataset": sha256(json.dumps(parts).encode()).hexdigest(),
            "tokenizer": first["tokenizer"],
        }

    def rows_before(self, epoch: int) -> int:
        """Return the first row by which every dataset has been through ``epoch`` epochs of its own."""
        if epoch == 0:
            return 0
        return 1 + max(
            self._row_of(part, sampler.rows_before(epoch) - 1) for part, sampler in enumerate(self._parts)
        )

    def rows_of_parts(self, row: int) -> dict[str, int]:
        """Return how many of the first ``row`` rows came from each dataset: its place in its own rows."""
        periods, rest = divmod(row, self._period)
        counted = periods * self._counts + np.bincount(self._part_of[:rest], minlength=len(self._parts))
        return dict(zip(self.samplers, counted.tolist(), strict=True))

    def epochs_of_parts(self, row: int) -> dict[str, float]:
        """Return how many epochs of each dataset the first ``row`` rows have shown."""
        return {
            name: epochs_at(self.samplers[name], count) for name, count in self.rows_of_parts(row).items()
        }

    def name_of(self, row: int) -> str:
        """Return the name of the dataset that a row comes from."""
        parts, _ = self.locate(np.array([row]))
        return list(self.samplers)[int(parts[0])]

    def locate(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return which part each row comes from, and its number among that part's rows: two of (rows,)."""
        periods = rows // self._period
        places = rows - periods * self._period
        parts = self._part_of[places]
        return parts, periods * self._counts[parts] + self._number_of[places]

    def fill(self, rows: NDArray[np.int64], out: Batch) -> None:
        """Write the rows with these numbers."""
        parts, numbers = self.locate(rows)
        for part in np.unique(parts).tolist():
            here = np.flatnonzero(parts == part)
            sampler = self._parts[part]
            rows_of_part = empty_batch(sampler, len(here))
            sampler.fill(numbers[here], rows_of_part)
            out.tokens[here] = rows_of_part.tokens
            if out.segment_ids is not None:
                segments = rows_of_part.segment_ids
                out.segment_ids[here] = 1 if segments is None else segments
            if out.loss_mask is not None:
                mask = rows_of_part.loss_mask
                out.loss_mask[here] = 1 if mask is None else mask

    def trace(self, row: int) -> tuple[Span, ...]:
        """Return where the tokens of one row come from."""
        parts, numbers = self.locate(np.array([row]))
        return self._parts[int(parts[0])].trace(int(numbers[0]))

    def _row_of(self, part: int, number: int) -> int:
        """Return the row that is number ``number`` of ``part``; the inverse of `locate`."""
        period, place = divmod(number, int(self._counts[part]))
        return period * self._period + int(np.flatnonzero(self._part_of == part)[place])


def open_mixture(
    sampler: str,
    stores: Mapping[str, TokenStore],
    weights: Mapping[str, Weight],
    options: SamplerOptions,
    *,
    plugins: Plugins | None = None,
) -> Mixture:
    """Open one sampler over each of several splits, and mix their rows; raises what both do."""
    whole_shares(weights)  # a weight that makes no sense is named before anything is opened
    opened = {name: open_sampler(sampler, store, options, plugins=plugins) for name, store in stores.items()}
    return Mixture(opened, weights)


def whole_shares(weights: Mapping[str, Weight]) -> dict[str, int]:
    """Turn weights into the smallest whole numbers of rows in the same proportion, of at most 10,000 in all.

    Weights are read as they are written: 0.7 is seven tenths, not the nearest binary fraction.
    """
    if not weights:
        raise UsageError("a mixture needs at least one dataset; write --data NAME=WEIGHT")
    exact = {}
    for name, weight in weights.items():
        try:
            exact[name] = Fraction(str(weight))
        except (ValueError, ZeroDivisionError):
            raise UsageError(f"the weight of {name!r} is {weight!r}; write a number, such as 0.7") from None
        if exact[name] <= 0:
            raise UsageError(f"the weight of {name!r} is {weight}; give more than 0 or leave {name!r} out")
    total = sum(exact.values())
    parts = {name: weight / total for name, weight in exact.items()}
    period = lcm(*(part.denominator for part in parts.values()))
    if period > MAX_PERIOD:
        return _rounded(parts)
    return {name: int(part * period) for name, part in parts.items()}


def _rounded(parts: Mapping[str, Fraction]) -> dict[str, int]:
    """Round to `MAX_PERIOD` rows in all, the largest remainders upwards."""
    shares = {name: int(part * MAX_PERIOD) for name, part in parts.items()}
    by_remainder = sorted(parts, key=lambda name: shares[name] - parts[name] * MAX_PERIOD)
    for name in by_remainder[: MAX_PERIOD - sum(shares.values())]:
        shares[name] += 1
    if smallest := [name for name, share in shares.items() if share == 0]:
        raise UsageError(
            f"the weight of {smallest[0]!r} is below 1/{MAX_PERIOD:,} of all weights; "
            f"give it more, or leave {smallest[0]!r} out"
        )
    return shares


def schedule(counts: Sequence[int]) -> NDArray[np.int64]:
    """Spread ``counts[k]`` rows of each part k over sum(counts) places: (places,), the part of each.

    At every place each part has had its quota to less than one row. Row j of a part whose fraction of all
    rows is w belongs to places floor(j / w) up to ceil((j + 1) / w) - 1, and taking among the parts whose
    window has opened the one that closes first always works out: proportional fair scheduling (Baruah,
    Cohen, Plaxton, Varvel, 1996).
    """
    period = sum(counts)
    places = np.empty(period, np.int64)
    opened: list[tuple[int, int, int]] = []  # (deadline, part, row of the part)
    waiting = [(0, part, 0) for part, count in enumerate(counts) if count]  # (opens, part, row of the part)
    heapq.heapify(waiting)
    for place in range(period):
        while waiting and waiting[0][0] <= place:
            _, part, row = heapq.heappop(waiting)
            heapq.heappush(opened, (-(-(row + 1) * period // counts[part]), part, row))
        _, part, row = heapq.heappop(opened)
        places[place] = part
        if row + 1 < counts[part]:
            heapq.heappush(waiting, ((row + 1) * period // counts[part], part, row + 1))
    return places


def check_tokenizers(fingerprints: Mapping[str, str]) -> None:
    """Raise MismatchError where two datasets, by name, were written by different tokenizers."""
    (first_name, first), *others = fingerprints.items()
    for name, other in others:
        if other != first:
            raise MismatchError(
                f"{first_name!r} and {name!r} were written by different tokenizers (fingerprints "
                f"{first!r} and {other!r}): the same id means different text; encode both with one tokenizer"
            )


def _check_equal(samplers: Mapping[str, Sampler]) -> None:
    check_tokenizers({name: str(sampler.identity["tokenizer"]) for name, sampler in samplers.items()})
    (first_name, first), *others = samplers.items()
    for name, other in others:
        if other.dtype != first.dtype:
            raise MismatchError(
                f"{first_name!r} is stored as {first.dtype} and {name!r} as {other.dtype}; "
                "convert one of them: tokpack convert DIR --dtype uint32 --output NEW_DIR"
            )
        if other.seq_len != first.seq_len:
            raise UsageError(
                f"{first_name!r} has rows of {first.seq_len:,} tokens and {name!r} of {other.seq_len:,}; "
                "open both with one seq_len"
            )
