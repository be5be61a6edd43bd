"""``random-block``: windows of the stream in random order, each once per epoch, or drawn as nanoGPT does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import Batch
from tokpack.errors import UsageError
from tokpack.protocols import SamplerOptions, Span, TokenStore
from tokpack.samplers.options import read_choice
from tokpack.samplers.permutation import (
    BLOCK,
    ORDER_VERSION,
    Blocked,
    derive_key,
    epoch_keys,
    mix64,
    permute,
)

__all__ = ["RandomBlock", "check_row_fits", "open_sampler"]

#: Orders under one seed are kept apart by these names.
_ORDER = "random-block/order"
_PHASE = "random-block/phase"
_DRAW = "random-block/draw"


def open_sampler(store: TokenStore, options: SamplerOptions) -> RandomBlock:
    """Open the sampler; option ``epoch``: exact (default) or replacement."""
    epoch = read_choice(options.options, "epoch", ("exact", "replacement"))
    return RandomBlock(
        store,
        seq_len=options.seq_len,
        seed=options.seed,
        epoch="exact" if epoch == "exact" else "replacement",
    )


def check_row_fits(store: TokenStore, seq_len: int) -> None:
    """Refuse a split that has not even one row of ``seq_len`` tokens and the token after it.

    Raises:
        UsageError: names both lengths.
    """
    if len(store) <= seq_len:
        raise UsageError(
            f"the split holds {len(store):,} tokens, but one row of seq_len {seq_len:,} needs "
            f"{seq_len + 1:,}; lower seq_len or encode more text"
        )


class RandomBlock:
    """Windows of ``seq_len`` tokens, and the one that follows, from anywhere in the stream.

    With ``epoch="exact"`` the stream is cut into windows side by side and an epoch shows each of them once.
    Where the cuts lie moves from epoch to epoch (the phase), so that over ``seq_len`` epochs, a cycle, every
    window that the stream has is shown exactly once. Of an epoch's tokens only fewer than ``seq_len`` before
    its phase and fewer than ``seq_len`` at the end are left out.

    With ``epoch="replacement"`` each row starts anywhere with equal chance, as in nanoGPT's ``get_batch``;
    an epoch is then only a number of rows.

    Windows cross documents: end-of-text tokens between them are ordinary tokens.
    """

    segmented = False

    def __init__(
        self,
        store: TokenStore,
        *,
        seq_len: int,
        seed: int = 0,
        epoch: Literal["exact", "replacement"] = "exact",
    ) -> None:
        check_row_fits(store, seq_len)
        self._store = store
        self.dtype: np.dtype[Any] = store.dtype
        self.vocab_size, self.memory_mapped = store.vocab_size, store.memory_mapped
        self._loss_mask = store.loss_mask
        self.masked = self._loss_mask is not None
        self.seq_len = seq_len
        self.seed = seed
        self.epoch = epoch
        self._order_key = derive_key(seed, _ORDER)
        self._phase_key = derive_key(seed, _PHASE)
        self._draw_key = derive_key(seed, _DRAW)
        #: Where windows may start: [0, legal starts); the last one has the last token as its last label.
        self._legal_starts = len(store) - seq_len
        # Windows of an epoch at phase 0, and how many phases leave room for as many.
        self._windows, slack = divmod(len(store) - 1, seq_len)
        self._long_phases = slack + 1
        self._cycle: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None
        #: Start of each row, (rows,) to (rows,).
        compute = self._exact_starts if epoch == "exact" else self._drawn_starts
        self.starts = Blocked(compute, size=min(BLOCK, self._legal_starts))

    @property
    def identity(self) -> Mapping[str, str | int]:
        """Everything that decides the rows."""
        return {
            "sampler": f"random-block/{ORDER_VERSION}",
            "seq_len": self.seq_len,
            "seed": self.seed,
            "epoch": self.epoch,
            "dataset": self._store.fingerprint,
            "tokenizer": self._store.tokenizer_fingerprint,
        }

    def rows_before(self, epoch: int) -> int:
        """Return the number of the first row of ``epoch``."""
        if self.epoch == "replacement":
            return epoch * self._windows
        cycle, index = divmod(epoch, self.seq_len)
        before = 0 if index == 0 else int(self._epochs_of(cycle)[1][index])
        return cycle * self._legal_starts + before

    def fill(self, rows: NDArray[np.int64], out: Batch) -> None:
        """Write the rows with these numbers."""
        starts = self.starts(rows)
        self._store.gather(starts, out.tokens)
        if out.loss_mask is not None and self._loss_mask is not None:
            self._loss_mask.gather(starts, out.loss_mask)

    def trace(self, row: int) -> tuple[Span, ...]:
        """Return the window that a row shows, the token after it included."""
        start = int(self.starts(np.array([row]))[0])
        return (Span(self._store, start, start + self.seq_len + 1),)

    def _drawn_starts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        # 64 hashed bits modulo at most 2**47 starts: no start is favoured by more than 1 in 2**17.
        hashed = mix64(mix64(rows.astype(np.uint64)) ^ np.uint64(self._draw_key))
        return (hashed % np.uint64(self._legal_starts)).astype(np.int64)

    def _exact_starts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        first = int(rows.min()) // self._legal_starts
        if first == int(rows.max()) // self._legal_starts:
            return self._starts_in_cycle(rows - first * self._legal_starts, first)
        cycles = rows // self._legal_starts
        starts = np.empty(len(rows), np.int64)
        for cycle in np.unique(cycles).tolist():
            here = np.flatnonzero(cycles == cycle)
            starts[here] = self._starts_in_cycle(rows[here] - cycle * self._legal_starts, cycle)
        return starts

    def _starts_in_cycle(self, rows: NDArray[np.int64], cycle: int) -> NDArray[np.int64]:
        phases, before = self._epochs_of(cycle)
        epochs = np.searchsorted(before, [rows.min()], side="right") - 1
        if int(rows.max()) >= before[epochs[0] + 1]:  # seldom: most blocks of rows lie in one epoch
            epochs = np.searchsorted(before, rows, side="right") - 1
        indices = rows - before[epochs]
        windows = self._windows - (phases[epochs] >= self._long_phases)
        keys = epoch_keys(self._order_key, cycle * self.seq_len + epochs)
        blocks = _permute_each(indices, windows, keys)
        starts: NDArray[np.int64] = phases[epochs] + blocks * self.seq_len
        return starts

    def _epochs_of(self, cycle: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the phase of each epoch of a cycle, and the rows before it: (seq_len,), (seq_len + 1,)."""
        if self._cycle is None or self._cycle[0] != cycle:
            keys = epoch_keys(self._phase_key, np.array([cycle]))
            phases = permute(np.arange(self.seq_len, dtype=np.int64), self.seq_len, keys)
            before = np.zeros(self.seq_len + 1, np.int64)
            np.cumsum(self._windows - (phases >= self._long_phases), out=before[1:])
            self._cycle = (cycle, phases, before)
            return phases, before
        return self._cycle[1], self._cycle[2]


def _permute_each(
    indices: NDArray[np.int64], sizes: NDArray[np.int64], keys: NDArray[np.uint32]
) -> NDArray[np.int64]:
    """Permute every index within its own size; ``sizes`` and ``keys`` are one for all, or one per index."""
    if len(sizes) == 1:
        return permute(indices, int(sizes[0]), keys)
    permuted = np.empty(len(indices), np.int64)
    for size in np.unique(sizes).tolist():  # at most two, since epochs differ by one window
        here = np.flatnonzero(sizes == size)
        permuted[here] = permute(indices[here], size, keys[:, here])
    return permuted
