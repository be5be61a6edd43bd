"""``sliding-window``: windows at a fixed stride, over the whole stream or within each document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import Batch, offsets_from_lengths
from tokpack.errors import UsageError
from tokpack.protocols import SamplerOptions, Span, TokenColumn, TokenStore
from tokpack.samplers.options import read_choice, read_flag, read_integer
from tokpack.samplers.permutation import ORDER_VERSION, EpochOrder

__all__ = ["SlidingWindow", "open_sampler"]


def open_sampler(store: TokenStore, options: SamplerOptions) -> SlidingWindow:
    """Open the sampler.

    Options: ``stride`` (default seq_len), ``within`` (stream or documents), ``shuffle`` (default true),
    ``drop_last`` (default true).
    """
    within = read_choice(options.options, "within", ("stream", "documents"))
    return SlidingWindow(
        store,
        seq_len=options.seq_len,
        stride=read_integer(options.options, "stride", options.seq_len),
        within="stream" if within == "stream" else "documents",
        shuffle=read_flag(options.options, "shuffle", True),
        drop_last=read_flag(options.options, "drop_last", True),
        seed=options.seed,
    )


class SlidingWindow:
    """Windows of ``seq_len`` tokens and the one that follows, ``stride`` tokens apart.

    A stride below ``seq_len`` shows tokens several times per epoch, a larger one skips some.
    ``within="documents"`` starts anew at every document and never crosses from one to the next; it keeps one
    int64 per document in memory. ``drop_last=False`` adds a shorter row, padded with id 0 in segment 0,
    wherever the windows leave a last token without its turn as a label.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        seq_len: int,
        stride: int | None = None,
        within: Literal["stream", "documents"] = "stream",
        shuffle: bool = True,
        drop_last: bool = True,
        seed: int = 0,
    ) -> None:
        self._store = store
        self.dtype: np.dtype[Any] = store.dtype
        self.vocab_size, self.memory_mapped = store.vocab_size, store.memory_mapped
        self._loss_mask = store.loss_mask
        self.masked = self._loss_mask is not None
        self.seq_len = seq_len
        self.stride = seq_len if stride is None else stride
        self.within = within
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.seed = seed
        self.segmented = not drop_last
        if self.stride < 1:
            raise UsageError(f"stride is {self.stride}; it must be at least 1")
        #: Bounds of the texts that windows stay inside, and the windows before each: (texts + 1,).
        self._bounds = store.offsets if within == "documents" else np.array([0, len(store)], np.int64)
        counts = self._windows_in(np.diff(self._bounds))
        self._before = offsets_from_lengths(counts, len(counts))
        if not (rows := int(self._before[-1])):
            raise UsageError(self._nothing_fits())
        self._order = EpochOrder(rows, seed=seed, stream="sliding-window/order", shuffle=shuffle)

    @property
    def identity(self) -> Mapping[str, str | int]:
        """Everything that decides the rows."""
        return {
            "sampler": f"sliding-window/{ORDER_VERSION}",
            "seq_len": self.seq_len,
            "seed": self.seed,
            "stride": self.stride,
            "within": self.within,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
            "dataset": self._store.fingerprint,
            "tokenizer": self._store.tokenizer_fingerprint,
        }

    def rows_before(self, epoch: int) -> int:
        """Return the number of the first row of ``epoch``."""
        return self._order.rows_before(epoch)

    def spans(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where each row starts and how many tokens it holds, at most seq_len + 1: two of (rows,)."""
        items = self._order.items(rows)
        if self.within == "stream":
            starts = items * self.stride
            ends = self._bounds[1]
        else:
            documents = np.searchsorted(self._before, items, side="right") - 1
            starts = self._bounds[documents] + (items - self._before[documents]) * self.stride
            ends = self._bounds[documents + 1]
        return starts, np.minimum(ends - starts, self.seq_len + 1)

    def fill(self, rows: NDArray[np.int64], out: Batch) -> None:
        """Write the rows with these numbers."""
        starts, lengths = self.spans(rows)
        if out.segment_ids is not None:
            out.segment_ids[...] = np.arange(self.seq_len + 1) < lengths[:, None]
        _gather(self._store, starts, lengths, out.tokens)
        if out.loss_mask is not None and self._loss_mask is not None:
            _gather(self._loss_mask, starts, lengths, out.loss_mask)

    def trace(self, row: int) -> tuple[Span, ...]:
        """Return the window that a row shows, the token after it included."""
        starts, lengths = self.spans(np.array([row]))
        return (Span(self._store, int(starts[0]), int(starts[0] + lengths[0])),)

    def _windows_in(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many rows a text of each length has: (texts,)."""
        # A window at s is full when it has seq_len labels: s + seq_len <= length - 1.
        full = np.maximum((lengths - 1 - self.seq_len) // self.stride + 1, 0)
        if self.drop_last:
            return full
        labelled = np.where(full > 0, (full - 1) * self.stride + self.seq_len, 0)  # the last label so far
        leaves_one = (labelled < lengths - 1) & (full * self.stride < lengths - 1)
        counts: NDArray[np.int64] = full + leaves_one
        return counts

    def _nothing_fits(self) -> str:
        where = "no document of the split" if self.within == "documents" else "the split"
        longest = int(np.diff(self._bounds).max(initial=0))
        has = f"{where} has" if self.within == "stream" else f"{where} has more than"
        return (
            f"{has} {longest:,} tokens, but a row of seq_len {self.seq_len:,} needs {self.seq_len + 1:,}; "
            "lower seq_len, or pass drop_last=false to pad short rows"
        )


def _gather(
    column: TokenColumn, starts: NDArray[np.int64], lengths: NDArray[np.int64], out: NDArray[Any]
) -> None:
    """Fill each row of ``out`` with ``lengths[i]`` values from ``starts[i]``, and with 0 after them."""
    full = lengths == out.shape[1]
    if full.all():
        column.gather(starts, out)
        return
    if full.any():
        whole = np.empty((int(full.sum()), out.shape[1]), out.dtype)
        column.gather(starts[full], whole)
        out[full] = whole
    for row in np.flatnonzero(~full).tolist():
        start, length = int(starts[row]), int(lengths[row])
        out[row, :length] = column.read(start, start + length)
        out[row, length:] = 0
