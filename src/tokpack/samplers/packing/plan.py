"""The plan, its ledger, and the one function that makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from tokpack.errors import UsageError
from tokpack.samplers.packing.by_length import best_fit, first_fit
from tokpack.samplers.packing.documents import Documents, LongDocuments, Rows, cut
from tokpack.samplers.packing.in_order import greedy, pool

__all__ = ["STRATEGIES", "PackingLedger", "PackingPlan", "Strategy", "plan_rows"]

Strategy: TypeAlias = Literal["best-fit", "first-fit", "greedy", "pool"]

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
MAX_SEQ_LEN = 1 << 24

_PLANNERS: Mapping[Strategy, Callable[[Documents], Rows]] = MappingProxyType(
    {"best-fit": best_fit, "first-fit": first_fit, "greedy": greedy, "pool": pool}
)


@dataclass(frozen=True, slots=True)
class PackingLedger:
    """Where every token went: ``tokens == placed + dropped`` and ``rows * seq_len == placed + padded``."""

    documents: int
    empty_documents: int
    tokens: int
    rows: int
    seq_len: int
    placed: int  # tokens in rows
    padded: int  # places in rows without a token
    dropped: int  # tokens of documents that were truncated or dropped
    documents_split: int
    documents_truncated: int
    documents_dropped: int

    @property
    def fill(self) -> float:
        """Part of all places in rows that hold a token, from 0 to 1."""
        return self.placed / (self.rows * self.seq_len) if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class PackingPlan:
    """Rows as lists of pieces; a piece is a document, or a part of one that was split.

    Row ``r`` holds pieces ``row_offsets[r]`` to ``row_offsets[r + 1]``, and piece ``p`` is
    ``tokens[starts[p]:starts[p] + lengths[p]]`` of the dataset.
    """

    seq_len: int
    strategy: Strategy
    long_documents: LongDocuments
    starts: NDArray[np.int64]  # (pieces,)
    lengths: NDArray[np.int32]  # (pieces,), each from 1 to seq_len
    row_offsets: NDArray[np.int64]  # (rows + 1,)
    continued: NDArray[np.bool_]  # (rows,) whether the document that fills the row goes on in another
    ledger: PackingLedger

    def __len__(self) -> int:
        return len(self.row_offsets) - 1


def plan_rows(
    offsets: NDArray[np.int64],
    seq_len: int,
    *,
    strategy: Strategy = "best-fit",
    long_documents: LongDocuments = "split",
) -> PackingPlan:
    """Plan rows of ``seq_len`` tokens for the documents between ``offsets`` (int64, documents + 1).

    Documents longer than a row are cut into whole rows and a rest (``split``), cut after ``seq_len`` tokens
    (``truncate``) or left out (``drop``). Empty documents are counted and take no place.

    Raises:
        UsageError: ``seq_len`` is below 2 or above MAX_SEQ_LEN, or a name is unknown.
        DamagedError: the offsets do not ascend.
    """
    if seq_len < 2:
        raise UsageError(
            f"seq_len is {seq_len}; use 2 or more, since a row needs a token to read and one to predict"
        )
    if seq_len > MAX_SEQ_LEN:
        raise UsageError(f"seq_len is {seq_len:,}; rows are packed up to {MAX_SEQ_LEN:,} tokens")
    _check_name("packing strategy", strategy, STRATEGIES)
    _check_name("policy for long documents", long_documents, get_args(LongDocuments))
    documents = cut(offsets, seq_len, long_documents)
    starts, lengths, row_offsets, whole_rows = _PLANNERS[strategy](documents)
    continued = np.zeros(len(row_offsets) - 1, np.bool_)
    continued[whole_rows] = True
    ledger = _ledger(documents, len(continued))
    return PackingPlan(seq_len, strategy, long_documents, starts, lengths, row_offsets, continued, ledger)


def _check_name(what: str, name: str, choices: tuple[str, ...]) -> None:
    if name not in choices:
        raise UsageError(f"unknown {what} {name!r}; choose one of: {', '.join(choices)}")


def _ledger(documents: Documents, rows: int) -> PackingLedger:
    seq_len, policy = documents.seq_len, documents.policy
    tokens = int(documents.offsets[-1] - documents.offsets[0])
    placed = int(documents.histogram @ np.arange(seq_len + 1)) + seq_len * int(documents.whole.sum())
    long = len(documents.long)
    return PackingLedger(
        documents=len(documents.tails),
        empty_documents=int(documents.histogram[0]) - (long if policy == "drop" else 0),
        tokens=tokens,
        rows=rows,
        seq_len=seq_len,
        placed=placed,
        padded=rows * seq_len - placed,
        dropped=tokens - placed,
        documents_split=long if policy == "split" else 0,
        documents_truncated=long if policy == "truncate" else 0,
        documents_dropped=long if policy == "drop" else 0,
    )
