"""Settings in which nothing is left open, checked against the dataset."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from tokpack.errors import UsageError
from tokpack.train.config import Settings
from tokpack.train.corpus import Corpus
from tokpack.train.shape import complete

__all__ = ["check_ids", "complete_settings", "identity_of"]

_EVERY = 250  # steps between evaluations, and between checkpoints, unless said otherwise


def complete_settings(settings: Settings, corpus: Corpus, *, world_size: int, dtype: torch.dtype) -> Settings:
    """Fill in what was left to be worked out, so that the same settings mean the same run anywhere."""
    data, vocab_size = settings.data, corpus.first.manifest.tokenizer.vocab_size
    evaluate = settings.eval.every
    if evaluate < 0:
        evaluate = 0 if corpus.lacking(data.validation_split) else _EVERY
    save = settings.checkpoint.every or evaluate or _EVERY
    sample = settings.sample.every if settings.sample.every >= 0 else save
    rows = data.global_batch_size or data.batch_size * world_size
    return replace(
        settings,
        model=complete(settings.model, vocab_size=vocab_size, seq_len=data.seq_len),
        data=replace(data, global_batch_size=rows),
        train=replace(settings.train, dtype="bfloat16" if dtype == torch.bfloat16 else "float32"),
        eval=replace(settings.eval, every=evaluate),
        checkpoint=replace(settings.checkpoint, every=save),
        sample=replace(settings.sample, every=sample),
    )


def check_ids(settings: Settings, corpus: Corpus) -> None:
    """An id beyond the embedding would be an unreadable fault on the device; here it is a sentence.

    Raises:
        UsageError: an id or a row that the model has no place for.
    """
    model = settings.model
    if model.seq_len < settings.data.seq_len:
        raise UsageError(
            f"data.seq_len is {settings.data.seq_len:,}, but the model takes at most model.seq_len = "
            f"{model.seq_len:,} tokens; change one of them"
        )
    for dataset in corpus.datasets.values():
        for name, split in dataset.manifest.splits.items():
            top = max((shard.max_id for shard in split.shards if shard.max_id is not None), default=0)
            if top >= model.vocab_size:
                raise UsageError(
                    f"{dataset.path} has token id {top:,} in split {name!r}, but the model's vocabulary is "
                    f"{model.vocab_size:,}; set model.vocab_size to at least {top + 1:,}, or to 0"
                )


def identity_of(settings: Settings) -> dict[str, Any]:
    """Return what must be equal for a checkpoint to be continued; the loader looks after the data."""
    shape = {f"model.{name}": value for name, value in settings.to_dict()["model"].items()}
    return shape | {"optim.name": settings.optim.name}
