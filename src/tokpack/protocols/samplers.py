"""What a sampler is: rows of one split, each a pure function of its number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import Batch
from tokpack.protocols.store import TokenStore


@dataclass(frozen=True, slots=True)
class SamplerOptions:
    """How to cut rows. ``options`` holds the choices that `SamplerSpec.options` announces, by name.

    Values are as the command line gives them (``"512"``, ``"exact"``) or as Python has them (512, True);
    `tokpack.samplers.options` reads both.
    """

    seq_len: int
    seed: int = 0
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)


class Span(NamedTuple):
    """Tokens [start, stop) of a split: where one piece of a row comes from."""

    store: TokenStore
    start: int
    stop: int


class Sampler(Protocol):
    """Rows of one split, each a pure function of its number: no cursor, no generator.

    Rows are numbered from 0 without end. An epoch is a run of rows in which everything that the sampler
    shows is shown once; where a sampler draws at random, it is as many rows as an exact epoch has.
    Safe from several threads, and picklable wherever its store is.
    """

    @property
    def seq_len(self) -> int:
        """Tokens that a model sees per row; `fill` writes one more."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage dtype of the tokens, uint16 or uint32."""
        ...

    @property
    def vocab_size(self) -> int:
        """Largest id + 1 that a row may hold."""
        ...

    @property
    def memory_mapped(self) -> bool:
        """Whether filling a row costs no more than its own tokens."""
        ...

    @property
    def segmented(self) -> bool:
        """Whether `fill` writes ``segment_ids`` too: rows of several documents, or with padding."""
        ...

    @property
    def masked(self) -> bool:
        """Whether `fill` writes ``loss_mask`` too: wherever a store has one, since rows must obey it."""
        ...

    @property
    def identity(self) -> Mapping[str, str | int]:
        """Everything that decides the rows, by name; two samplers with equal identity give equal rows.

        Holds ``sampler`` (name and version of the algorithm, such as ``random-block/1``), ``seq_len``,
        ``seed``, ``dataset`` and ``tokenizer`` (fingerprints) and the sampler's own options. A loader
        stores it with its state and names each item that differs when it resumes.
        """
        ...

    def rows_before(self, epoch: int) -> int:
        """Return the number of the first row of ``epoch``; epochs count from 0."""
        ...

    def fill(self, rows: NDArray[np.int64], out: Batch) -> None:
        """Write the rows with these numbers, in this order, over all of ``out``."""
        ...

    def trace(self, row: int) -> tuple[Span, ...]:
        """Return where the tokens of one row come from, from left to right: all that `fill` writes.

        A row's last label is among them where there is one. Padding has no origin.
        """
        ...
