"""From a text to a torch DataLoader in one call, as books that build a GPT from scratch have it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from tokpack.batches import TextBatch
from tokpack.dataset.store import ArrayStore, open_dataset
from tokpack.dtypes import narrow, token_dtype
from tokpack.loader.datasets import RowDataset, collate_rows
from tokpack.plugins import Plugins
from tokpack.protocols import SamplerOptions, Special, TokenStore
from tokpack.samplers import open_sampler
from tokpack.tokenizers.opening import open_tokenizer

__all__ = ["create_dataloader"]


def create_dataloader(
    text_or_dataset: str | Path | TokenStore | Mapping[str, TokenStore],
    batch_size: int = 4,
    max_length: int = 256,
    stride: int = 128,
    shuffle: bool = True,
    drop_last: bool = True,
    num_workers: int = 0,
    *,
    tokenizer: str = "tiktoken:gpt2",
    special: Special = "text",
    plugins: Plugins | None = None,
) -> DataLoader[dict[str, Tensor]]:
    """Return a DataLoader of pairs (inputs, targets), int64 (batch_size, max_length) each.

    A string is a text, encoded with ``tokenizer``; a path is a dataset directory, of which the train split
    is taken. Windows start every ``stride`` tokens, targets are the inputs one token on. ``shuffle`` draws
    from torch's generator, so `torch.manual_seed` decides the order; ``drop_last`` leaves out a last batch of
    fewer rows.

    Raises:
        UsageError: not even one window fits.
        UnknownPluginError: the tokenizer's backend is not installed.
    """
    store = _store(text_or_dataset, tokenizer, special, plugins)
    options = SamplerOptions(max_length, options={"stride": stride, "shuffle": False})
    sampler = open_sampler("sliding-window", store, options, plugins=plugins)
    return DataLoader(
        RowDataset(sampler),
        batch_size=batch_size,
        shuffle=shuffle,
        drop_last=drop_last,
        num_workers=num_workers,
        collate_fn=_collate_pairs,
    )


def _collate_pairs(rows: Any) -> tuple[Tensor, Tensor]:
    batch = collate_rows(rows)
    return batch["input_ids"], batch["labels"]


def _store(
    given: str | Path | TokenStore | Mapping[str, TokenStore],
    reference: str,
    special: Special,
    plugins: Plugins | None,
) -> TokenStore:
    if isinstance(given, Path):
        return open_dataset(given, plugins=plugins)["train"]
    if isinstance(given, Mapping):
        return given["train"]
    if not isinstance(given, str):
        return given
    opened = open_tokenizer(reference, plugins=plugins)
    batch = opened.encode_batch(TextBatch.from_texts([given]), special=special)
    tokens = narrow(np.asarray(batch.tokens), token_dtype(opened.vocab_size))
    return ArrayStore(tokens, vocab_size=opened.vocab_size, tokenizer_fingerprint=opened.content_digest)
