"""``packed``: whole documents side by side in a row, each a segment of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import Batch
from tokpack.errors import UsageError
from tokpack.protocols import SamplerOptions, Span, TokenColumn, TokenStore
from tokpack.samplers.options import read_choice, read_flag
from tokpack.samplers.packing import LongDocuments, PackingPlan, Strategy, plan_rows
from tokpack.samplers.permutation import ORDER_VERSION, EpochOrder

__all__ = ["Packed", "check_packable", "open_sampler"]

#: Version of the plan; it changes when the same documents would share other rows.
_PLAN_VERSION = 1


def open_sampler(store: TokenStore, options: SamplerOptions) -> Packed:
    """Open the sampler.

    Options: ``strategy`` (best-fit, first-fit, greedy or pool), ``long_documents`` (split, truncate or
    drop), ``empty_documents`` (error or skip) and ``shuffle`` (default true).
    """
    given = options.options
    return Packed(
        store,
        seq_len=options.seq_len,
        strategy=cast(Strategy, given.get("strategy", "best-fit")),
        long_documents=cast(LongDocuments, given.get("long_documents", "split")),
        skip_empty=read_choice(given, "empty_documents", ("error", "skip")) == "skip",
        shuffle=read_flag(given, "shuffle", True),
        seed=options.seed,
    )


def check_packable(store: TokenStore, seq_len: int, *, skip_empty: bool = False) -> None:
    """Refuse a split that cannot be packed into rows of ``seq_len`` tokens.

    Raises:
        UsageError: it is shorter than one row, has no document boundaries, or holds empty documents while
            ``skip_empty`` is false.
    """
    if len(store) < seq_len:
        raise UsageError(
            f"the split holds {len(store):,} tokens, but one row has {seq_len:,}; "
            "lower seq_len or encode more text"
        )
    if store.num_documents < 2:
        raise UsageError(
            f"the split is one document of {len(store):,} tokens, so there are no boundaries to pack by; "
            "use the sampler random-block or sliding-window, or encode with --text-split"
        )
    if skip_empty:
        return
    empty = np.flatnonzero(store.offsets[1:] == store.offsets[:-1])
    if len(empty):
        raise UsageError(
            f"document {int(empty[0]):,} of the split is empty, and {len(empty) - 1:,} more are; "
            "pass empty_documents=skip to leave them out, or encode without --keep-empty"
        )


class _Layout(NamedTuple):
    """Pieces of some rows from left to right; each row ends with a piece of padding, which may be empty."""

    pieces: NDArray[np.int64]  # (pieces,) in the plan; means nothing for padding
    lengths: NDArray[np.int32]  # (pieces,) which add up to seq_len in every row
    begins: NDArray[np.int64]  # (rows,) the first piece of each row
    padding: NDArray[np.int64]  # (rows,) the last one


class Packed:
    """Rows of ``seq_len`` tokens that hold whole documents, planned by `plan_rows` from the offsets alone.

    Every token that the plan places is an input exactly once per epoch. Segments count from 1 in each row,
    padding is id 0 in segment 0. A label is the next token of the same document, so there is none at the end
    of a segment; only where a long document fills a row and goes on in another, the row's last label is the
    token that follows, and the cut costs nothing.
    """

    segmented = True

    def __init__(
        self,
        store: TokenStore,
        *,
        seq_len: int,
        strategy: Strategy = "best-fit",
        long_documents: LongDocuments = "split",
        skip_empty: bool = False,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        check_packable(store, seq_len, skip_empty=skip_empty)
        self.plan: PackingPlan = plan_rows(
            store.offsets, seq_len, strategy=strategy, long_documents=long_documents
        )
        if not len(self.plan):
            raise UsageError(
                f"no document of the split has at most {seq_len:,} tokens, and long_documents=drop leaves "
                "out all others; raise seq_len or use long_documents=split"
            )
        most = int(np.diff(self.plan.row_offsets).max())
        if most > np.iinfo(np.uint16).max:
            raise UsageError(
                f"a row of {seq_len:,} tokens would hold {most:,} documents, but segment ids "
                "count to 65,535; lower seq_len"
            )
        used = np.add.reduceat(self.plan.lengths, self.plan.row_offsets[:-1])
        self._padding: NDArray[np.int32] = seq_len - used  # (rows,) places without a token
        self._store = store
        self.dtype: np.dtype[Any] = store.dtype
        self.vocab_size, self.memory_mapped = store.vocab_size, store.memory_mapped
        self._loss_mask = store.loss_mask
        self.masked = self._loss_mask is not None
        self._order = EpochOrder(len(self.plan), seed=seed, stream="packed/order", shuffle=shuffle)
        self.seq_len = seq_len
        self.shuffle = shuffle
        self.seed = seed

    @property
    def identity(self) -> Mapping[str, str | int]:
        """Everything that decides the rows. Empty documents do not: they take no place."""
        return {
            "sampler": f"packed/{_PLAN_VERSION}.{ORDER_VERSION}",
            "seq_len": self.seq_len,
            "seed": self.seed,
            "strategy": self.plan.strategy,
            "long_documents": self.plan.long_documents,
            "shuffle": self.shuffle,
            "dataset": self._store.fingerprint,
            "tokenizer": self._store.tokenizer_fingerprint,
        }

    def rows_before(self, epoch: int) -> int:
        """Return the number of the first row of ``epoch``."""
        return self._order.rows_before(epoch)

    def fill(self, rows: NDArray[np.int64], out: Batch) -> None:
        """Write the rows with these numbers; all arrays of ``out``, segment ids too, are contiguous."""
        assert out.segment_ids is not None
        assert out.segment_ids.flags.c_contiguous  # else reshape copies
        items = self._order.items(rows)
        pieces, lengths, begins, padding = self._layout(items)
        starts = self.plan.starts.take(pieces, mode="clip")
        segments = np.arange(1, len(pieces) + 1) - np.repeat(begins, padding - begins + 1)
        segments[padding] = 0
        # One token more per row: padding, or the next token of the document that fills the row.
        goes_on = self.plan.continued[items]
        lengths[padding] += ~goes_on
        lengths[padding - 1] += goes_on
        out.segment_ids.reshape(-1)[...] = np.repeat(segments.astype(np.uint16), lengths)
        pieces_of_rows = list(
            zip(segments.tolist(), starts.tolist(), (starts + lengths).tolist(), strict=True)
        )
        _join(self._store, pieces_of_rows, out.tokens)
        if out.loss_mask is not None and self._loss_mask is not None:
            _join(self._loss_mask, pieces_of_rows, out.loss_mask)

    def trace(self, row: int) -> tuple[Span, ...]:
        """Return the tokens of a row, segment by segment, the token after it included where there is one."""
        item = int(self._order.items(np.array([row]))[0])
        pieces = slice(*self.plan.row_offsets[item : item + 2])
        starts = self.plan.starts[pieces]
        stops = starts + self.plan.lengths[pieces]
        stops[-1] += self.plan.continued[item]
        pairs = zip(starts.tolist(), stops.tolist(), strict=True)
        return tuple(Span(self._store, start, stop) for start, stop in pairs)

    def _layout(self, items: NDArray[np.int64]) -> _Layout:
        offsets = self.plan.row_offsets
        first = offsets[items]
        counts = offsets[items + 1] - first
        padding = counts.cumsum()
        padding += np.arange(len(items))  # each row has one piece of padding more
        begins = padding - counts
        pieces = (first - begins).repeat(counts + 1)
        pieces += np.arange(len(pieces))
        lengths = self.plan.lengths.take(pieces, mode="clip")  # the last row's padding may lie outside
        lengths[padding] = self._padding[items]
        return _Layout(pieces, lengths, begins, padding)


def _join(column: TokenColumn, pieces: Sequence[tuple[int, int, int]], out: NDArray[Any]) -> None:
    """Fill ``out`` (rows, length) with pieces (segment, start, stop) in order; segment 0 is zeros."""
    assert out.flags.c_contiguous  # else reshape copies
    blank = np.zeros(out.shape[1], out.dtype)
    parts = [
        column.read(start, stop) if segment else blank[: stop - start] for segment, start, stop in pieces
    ]
    np.concatenate(parts, out=out.reshape(-1))
