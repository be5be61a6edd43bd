"""Which documents a step was trained on: from the order alone, without reading a token."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokpack.loader import Share
from tokpack.protocols import Sampler, TokenStore

__all__ = ["describe_rows"]

_SHOWN = 12


def describe_rows(sampler: Sampler, store: TokenStore, share: Share, step: int) -> str:
    """Name the rows of a step's global batch and, where the sampler knows its windows, their documents."""
    first = step * share.global_batch_size
    rows = np.arange(first, first + share.global_batch_size, dtype=np.int64)
    named = f"rows {first:,} to {first + len(rows) - 1:,}"
    documents = _documents(sampler, store, rows)
    if documents is None:
        return named
    shown = ", ".join(f"{document:,}" for document in documents[:_SHOWN].tolist())
    more = f" and {len(documents) - _SHOWN:,} more" if len(documents) > _SHOWN else ""
    return f"{named}, documents {shown}{more}"


def _documents(sampler: Any, store: TokenStore, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Documents that the rows show, ascending; None where the sampler does not say."""
    if hasattr(sampler, "documents"):
        return np.unique(sampler.documents(rows))
    if hasattr(sampler, "spans"):
        starts, lengths = sampler.spans(rows)
    elif hasattr(sampler, "starts"):
        starts, lengths = sampler.starts(rows), np.full(len(rows), sampler.seq_len + 1)
    else:
        return None
    firsts = np.searchsorted(store.offsets, starts, side="right") - 1
    lasts = np.searchsorted(store.offsets, starts + np.maximum(lengths, 1) - 1, side="right") - 1
    spans = [np.arange(a, b + 1) for a, b in zip(firsts.tolist(), lasts.tolist(), strict=True)]
    return np.unique(np.concatenate(spans))
