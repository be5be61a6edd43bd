"""BOS and EOS, added the same way for every backend."""

from __future__ import annotations

import numpy as np

from tokpack.batches import TokenBatch
from tokpack.errors import UsageError
from tokpack.tokenizers.rows import surround_batch

__all__ = ["with_boundaries"]


def with_boundaries(batch: TokenBatch, *, bos_id: int | None = None, eos_id: int | None = None) -> TokenBatch:
    """Return ``batch`` with ``bos_id`` before and ``eos_id`` after each document, empty ones included.

    Returns ``batch`` itself where both are None. Tokens keep their dtype unless an id needs uint32; for
    columns see `surround_batch`.

    Raises:
        UsageError: an id is negative or does not fit uint32.
    """
    prefix, suffix = ([] if token_id is None else [token_id] for token_id in (bos_id, eos_id))
    if not (ids := prefix + suffix):
        return batch
    if min(ids) < 0 or max(ids) >= 2**32:
        raise UsageError(f"bos_id {bos_id} and eos_id {eos_id} must lie between 0 and 2**32 - 1")
    if max(ids) > np.iinfo(batch.tokens.dtype).max:
        batch = TokenBatch(batch.tokens.astype(np.uint32), batch.offsets, batch.columns)
    return surround_batch(batch, prefix=prefix, suffix=suffix)
