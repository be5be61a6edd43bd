"""Which documents a step was trained on: from the order alone, without reading a token."""

from __future__ import annotations

import numpy as np

from tokpack.loader import Share
from tokpack.protocols import Sampler, Span
from tokpack.samplers.mixture import Mixture

__all__ = ["describe_rows", "documents_of"]

_SHOWN = 12


def documents_of(spans: tuple[Span, ...]) -> set[int]:
    """Return the numbers of all documents, within their split, that the spans touch."""
    found: set[int] = set()
    for store, start, stop in spans:
        if stop > start:
            first, last = np.searchsorted(store.offsets, [start, stop - 1], side="right") - 1
            found.update(range(int(first), int(last) + 1))
    return found


def describe_rows(sampler: Sampler, share: Share, step: int) -> str:
    """Name the rows of a step's global batch and the documents that they show."""
    first = step * share.global_batch_size
    rows = range(first, first + share.global_batch_size)
    found: dict[str, set[int]] = {}
    for row in rows:
        of = f" of {sampler.name_of(row)}" if isinstance(sampler, Mixture) else ""
        found.setdefault(of, set()).update(documents_of(sampler.trace(row)))
    named = "; ".join(f"documents{of} {_listed(sorted(found[of]))}" for of in found)
    return f"rows {rows.start:,} to {rows.stop - 1:,}, {named}"


def _listed(documents: list[int]) -> str:
    shown = ", ".join(f"{document:,}" for document in documents[:_SHOWN])
    return shown + (f" and {len(documents) - _SHOWN:,} more" if len(documents) > _SHOWN else "")
