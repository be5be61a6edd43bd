"""Documents made longer, shorter or rectangular: the options of a tokenizer that are the same for them all.

Every function takes and gives flat arrays and knows no backend. Cut first, then add, then pad: so a row with
its special tokens is never longer than was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import TokenBatch, offsets_from_lengths
from tokpack.dtypes import TokenArray
from tokpack.errors import UsageError

__all__ = ["PaddedBatch", "Padding", "Side", "fill_batch", "pad_batch", "surround_batch", "truncate_batch"]

#: To which length rows are filled: not at all, to the longest of the batch, or to ``max_length``.
Padding: TypeAlias = Literal["none", "longest", "max_length"]
#: Which end of a document is cut, or filled.
Side: TypeAlias = Literal["left", "right"]


class PaddedBatch(NamedTuple):
    """Documents as rows of one length.

    ``input_ids`` (documents, length) has the dtype of the tokens; ``attention_mask`` (documents, length) is
    uint8, 1 at a token and 0 at padding; ``columns`` are the batch's further columns, 0 at padding.
    """

    input_ids: TokenArray
    attention_mask: NDArray[np.uint8]
    columns: Mapping[str, NDArray[Any]]


def truncate_batch(batch: TokenBatch, max_length: int, *, side: Side = "right") -> TokenBatch:
    """Cut documents to ``max_length`` tokens, taking away what is too much at ``side``.

    Returns ``batch`` itself when nothing is too long.

    Raises:
        UsageError: ``max_length`` is negative.
    """
    if max_length < 0:
        raise UsageError(f"max_length is {max_length}; it must be 0 or more")
    lengths = batch.lengths
    if not lengths.size or lengths.max() <= max_length:
        return batch
    kept = np.minimum(lengths, max_length)
    first = batch.offsets[:-1] if side == "right" else batch.offsets[1:] - kept
    offsets = offsets_from_lengths(kept, len(batch))
    source = np.arange(offsets[-1]) + np.repeat(first - offsets[:-1], kept)
    return _take(batch, source, offsets)


def surround_batch(
    batch: TokenBatch, *, prefix: Sequence[int] = (), suffix: Sequence[int] = ()
) -> TokenBatch:
    """Put ``prefix`` before and ``suffix`` after the tokens of every document.

    In every further column an added token takes the value of the token beside it, 0 in an empty document:
    the end of a trained answer is trained, the beginning of a prompt is not.
    """
    if not prefix and not suffix:
        return batch
    offsets = batch.offsets + (len(prefix) + len(suffix)) * np.arange(len(batch) + 1, dtype=np.int64)
    heads = offsets[:-1, None] + np.arange(len(prefix))
    tails = offsets[1:, None] - len(suffix) + np.arange(len(suffix))
    # A mask of what was there before costs a sixteenth of an index for every token.
    inner = np.ones(int(offsets[-1]), dtype=np.bool_)
    inner[heads] = inner[tails] = False

    tokens = np.empty(len(inner), dtype=batch.tokens.dtype)
    tokens[inner], tokens[heads], tokens[tails] = batch.tokens, prefix, suffix
    columns = {}
    filled = np.flatnonzero(batch.lengths)
    for name, values in batch.columns.items():
        column = columns[name] = np.zeros(len(inner), dtype=values.dtype)
        column[inner] = values
        column[heads[filled]] = values[batch.offsets[filled], None]
        column[tails[filled]] = values[batch.offsets[filled + 1] - 1, None]
    return TokenBatch(tokens, offsets, MappingProxyType(columns))


def pad_batch(
    batch: TokenBatch,
    *,
    pad_id: int | None,
    padding: Padding = "longest",
    max_length: int | None = None,
    side: Side = "right",
    multiple_of: int = 1,
) -> PaddedBatch:
    """Lay documents out as rows of one length, filling with ``pad_id`` at ``side``.

    The length is that of the longest document or ``max_length``, rounded up to ``multiple_of``.

    Raises:
        UsageError: a document is longer than ``max_length`` (see `truncate_batch`), ``pad_id`` is needed and
            there is none, documents differ in length under ``none``, or ``max_length`` is needed and missing.
    """
    lengths = batch.lengths
    longest = int(lengths.max(initial=0))
    width = _width(padding, longest, max_length, multiple_of)
    if max_length is not None and longest > max_length:
        raise UsageError(
            f"a document has {longest:,} tokens, max_length is {max_length:,}; "
            "cut it with truncate_batch first"
        )
    if (lengths == width).all():
        pad_id = pad_id or 0  # not one cell will hold it
    elif padding == "none":
        raise UsageError("documents of different length make no rows; choose padding longest or max_length")
    elif pad_id is None:
        raise UsageError("the tokenizer has no padding token; name the id to fill with: pad_id=0")

    places = np.arange(width)
    edges = lengths[:, None] if side == "right" else width - lengths[:, None]
    held = places < edges if side == "right" else places >= edges
    rows = np.full((len(batch), width), pad_id, dtype=batch.tokens.dtype)
    rows[held] = batch.tokens
    columns = {}
    for name, values in batch.columns.items():
        columns[name] = np.zeros(rows.shape, dtype=values.dtype)
        columns[name][held] = values
    return PaddedBatch(rows, held.astype(np.uint8), MappingProxyType(columns))


def fill_batch(batch: TokenBatch, *, pad_id: int | None, max_length: int | None) -> TokenBatch:
    """Fill documents up to ``max_length`` tokens; they stay documents, with the column ``attention_mask``.

    Raises:
        UsageError: see `pad_batch`.
    """
    rows, mask, columns = pad_batch(batch, pad_id=pad_id, padding="max_length", max_length=max_length)
    flat = {name: values.ravel() for name, values in columns.items()}
    offsets = np.arange(len(batch) + 1, dtype=np.int64) * rows.shape[1]
    return TokenBatch(rows.ravel(), offsets, flat | {"attention_mask": mask.ravel()})


def _width(padding: Padding, longest: int, max_length: int | None, multiple_of: int) -> int:
    if multiple_of < 1:
        raise UsageError(f"multiple_of is {multiple_of}; it must be 1 or more")
    if padding != "max_length":
        return -(-longest // multiple_of) * multiple_of if padding == "longest" else longest
    if max_length is None:
        raise UsageError("padding max_length needs a max_length: say how long rows are to be")
    return -(-max_length // multiple_of) * multiple_of


def _take(batch: TokenBatch, source: NDArray[np.int64], offsets: NDArray[np.int64]) -> TokenBatch:
    columns = {name: values[source] for name, values in batch.columns.items()}
    return TokenBatch(batch.tokens[source], offsets, MappingProxyType(columns))
