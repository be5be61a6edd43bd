"""BOS and EOS, added the same way for every backend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokpack.batches import TokenBatch
from tokpack.errors import UsageError
from tokpack.tokenizers.rows import surround_batch

__all__ = ["with_boundaries"]


def with_boundaries(
    batch: TokenBatch,
    *,
    bos_id: int | None = None,
    eos_id: int | None = None,
    template: tuple[Sequence[int], Sequence[int]] = ((), ()),
) -> TokenBatch:
    """Return ``batch`` with ``bos_id`` before and ``eos_id`` after each document, empty ones included.

    Inside of them stand the tokens that ``template`` puts before and after a document. Returns ``batch``
    itself where there is nothing to add. Tokens keep their dtype unless an id needs uint32; for
    columns see `surround_batch`.

    Raises:
        UsageError: an id is negative or does not fit uint32.
    """
    before, after = template
    prefix = [*([] if bos_id is None else [bos_id]), *before]
    suffix = [*after, *([] if eos_id is None else [eos_id])]
    if not (ids := prefix + suffix):
        return batch
    if min(ids) < 0 or max(ids) >= 2**32:
        raise UsageError(f"the ids {ids} put around documents must lie between 0 and 2**32 - 1")
    if max(ids) > np.iinfo(batch.tokens.dtype).max:
        batch = TokenBatch(batch.tokens.astype(np.uint32), batch.offsets, batch.columns)
    return surround_batch(batch, prefix=prefix, suffix=suffix)
