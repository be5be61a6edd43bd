"""The one rule from vocabulary size to storage dtype, and the one checked narrowing."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokpack.errors import DamagedError, UsageError

__all__ = ["COLUMN_DTYPES", "DTYPES", "MASKS", "TokenArray", "narrow", "parse_dtype", "token_dtype"]

TokenArray: TypeAlias = NDArray[np.uint16] | NDArray[np.uint32]

#: Storage dtypes by the name used in flags and manifests; always little-endian on disk.
DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}


#: Dtypes of the further per-token columns that a dataset may hold beside its tokens.
COLUMN_DTYPES: dict[str, np.dtype[Any]] = {
    "attention_mask": np.dtype("u1"),
    "loss_mask": np.dtype("u1"),
    "segment_ids": np.dtype("<i4"),
}

#: Columns that say which tokens the loss counts; where there are several, the first of them does.
MASKS = ("loss_mask", "attention_mask")


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Return the smallest storage dtype for ids below ``vocab_size``.

    65,536 ids still fit ``uint16``, since the largest of them is 65,535.

    Raises:
        UsageError: ``vocab_size`` is below 1 or above 2**32.
    """
    if not 1 <= vocab_size <= 2**32:
        raise UsageError(f"vocab_size is {vocab_size:,}; it must lie between 1 and 2**32")
    return DTYPES["uint16"] if vocab_size <= 2**16 else DTYPES["uint32"]


def parse_dtype(name: str, vocab_size: int) -> np.dtype[Any]:
    """Return the dtype a user asked for by ``name``, refusing one that cannot hold the vocabulary.

    Raises:
        UsageError: ``name`` is neither ``uint16`` nor ``uint32``, or is too narrow.
    """
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}; choose one of: {', '.join(DTYPES)}")
    dtype = DTYPES[name]
    if vocab_size > np.iinfo(dtype).max + 1:
        raise UsageError(
            f"{name} holds ids up to {np.iinfo(dtype).max:,}, but the vocabulary has {vocab_size:,} ids; "
            f"use --dtype {token_dtype(vocab_size).name} or leave --dtype out"
        )
    return dtype


def narrow(tokens: NDArray[Any], dtype: np.dtype[Any]) -> TokenArray:
    """Cast an integer array to a storage dtype, refusing ids that do not fit.

    Returns ``tokens`` itself when it already has that dtype.

    Raises:
        DamagedError: an id is negative or too large for ``dtype``, or the array is not of integers.
    """
    if tokens.dtype == dtype:
        return tokens
    if tokens.dtype.kind not in "iu":
        raise DamagedError(f"token ids must be integers, but the tokenizer returned {tokens.dtype}")
    if tokens.size:
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high > np.iinfo(dtype).max:
            raise DamagedError(
                f"token id {low if low < 0 else high:,} does not fit {dtype.name}; "
                "was the vocabulary extended after it was opened?"
            )
    return tokens.astype(dtype)
