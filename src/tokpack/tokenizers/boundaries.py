"""BOS and EOS, added the same way for every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import TokenBatch
from tokpack.errors import UsageError

__all__ = ["with_boundaries"]


def with_boundaries(batch: TokenBatch, *, bos_id: int | None = None, eos_id: int | None = None) -> TokenBatch:
    """Return ``batch`` with ``bos_id`` before and ``eos_id`` after each document, empty ones included.

    Returns ``batch`` itself where both are None. Tokens keep their dtype unless an id needs uint32. In
    columns, such as ``loss_mask``, BOS has 0 and EOS the value of the token before it (0 in an empty
    document): a model is to learn to end what it is to learn to say.

    Raises:
        UsageError: an id is negative or does not fit uint32.
    """
    ids = [token_id for token_id in (bos_id, eos_id) if token_id is not None]
    if not ids:
        return batch
    if min(ids) < 0 or max(ids) >= 2**32:
        raise UsageError(f"bos_id {bos_id} and eos_id {eos_id} must lie between 0 and 2**32 - 1")
    offsets = batch.offsets + len(ids) * np.arange(len(batch) + 1, dtype=np.int64)
    first, last = offsets[:-1], offsets[1:] - 1
    is_content = np.ones(offsets[-1], dtype=np.bool_)
    if bos_id is not None:
        is_content[first] = False
    if eos_id is not None:
        is_content[last] = False

    def spread(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        out = np.zeros((len(is_content), *values.shape[1:]), dtype=dtype)
        out[is_content] = values
        return out

    fits = max(ids) <= np.iinfo(batch.tokens.dtype).max
    tokens = spread(batch.tokens, batch.tokens.dtype if fits else np.dtype(np.uint32))
    columns = {name: spread(values, values.dtype) for name, values in batch.columns.items()}
    if bos_id is not None:
        tokens[first] = bos_id
    if eos_id is not None:
        tokens[last] = eos_id
        full = last[np.diff(batch.offsets) > 0]
        for column in columns.values():
            column[full] = column[full - 1]
    return TokenBatch(tokens, offsets, columns)
