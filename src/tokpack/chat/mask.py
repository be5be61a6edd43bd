"""From trained bytes to a loss mask beside the tokens, for any tokenizer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import TextBatch, TokenBatch
from tokpack.errors import UsageError
from tokpack.protocols import SpanTokenizer, Special, Tokenizer

__all__ = ["encode_trained"]


def encode_trained(tokenizer: Tokenizer, texts: TextBatch, *, special: Special) -> TokenBatch:
    """Encode texts that have the column ``trained`` (uint8 per byte).

    The column ``loss_mask`` (uint8) is 1 at every token that stands for a trained byte, as in transformers'
    ``assistant_masks``.

    Raises:
        UsageError: the tokenizer changes the text and does not say from where its tokens come.
    """
    if isinstance(tokenizer, SpanTokenizer):
        batch = tokenizer.encode_spans(texts, special=special)
        first = np.repeat(texts.offsets[:-1], batch.lengths)
        start, stop = batch.columns["start"] + first, batch.columns["stop"] + first
    else:
        batch = tokenizer.encode_batch(texts, special=special)
        edges = _edges(tokenizer, batch, texts)
        start, stop = edges[:-1], edges[1:]
    trained = np.concatenate(([0], np.cumsum(texts.columns["trained"], dtype=np.int64)))
    mask = (trained[stop] > trained[start]).astype(np.uint8)
    return TokenBatch(batch.tokens, batch.offsets, {"loss_mask": mask})


def _edges(tokenizer: Tokenizer, batch: TokenBatch, texts: TextBatch) -> NDArray[np.int64]:
    """Return where tokens begin and end in the text, (tokens + 1,), from the bytes that each stands for."""
    used, places = np.unique(batch.tokens, return_inverse=True)
    sizes = np.fromiter((len(tokenizer.decode_bytes([token])) for token in used), np.int64, len(used))
    edges: NDArray[np.int64] = np.concatenate(([0], np.cumsum(sizes[places], dtype=np.int64)))
    if (edges[batch.offsets] != texts.offsets).any():
        raise UsageError(
            f"{tokenizer.engine} changes the text, and does not say from where its tokens come; a loss mask "
            "needs a tokenizer of the hf or sentencepiece backend, or one that is lossless"
        )
    return edges
