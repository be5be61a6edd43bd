"""A finished or running run as a model that can speak: weights, tokenizer and settings from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from tokpack.errors import MismatchError
from tokpack.plugins import Plugins
from tokpack.protocols import Tokenizer
from tokpack.tokenizers.probe import identify
from tokpack.train.checkpoint import load_checkpoint
from tokpack.train.config import Settings
from tokpack.train.folder import RunFolder
from tokpack.train.layers import layered, without_factory
from tokpack.train.objective import build_model, check_weights, load_weights

__all__ = ["Trained", "open_trained"]


@dataclass(frozen=True, slots=True)
class Trained:
    """A model with what belongs to it."""

    model: nn.Module
    tokenizer: Tokenizer
    settings: Settings
    step: int


def open_trained(
    run: Path, plugins: Plugins, *, which: str = "best", device: torch.device, factory: str = ""
) -> Trained:
    """Open the ``best``, the ``last`` or a numbered checkpoint of a run; needs nothing but its folder.

    ``factory`` allows a model that is not tokpack's own; code is never loaded because the folder names it.

    Raises:
        UsageError: no run folder, or a factory is needed. DamagedError: a file is not what it was.
        MismatchError: the tokenizer is not the one that the model was trained with.
    """
    folder = RunFolder.open(run)
    settings = layered(
        [without_factory(folder.values(), factory, where=run)], origin=str(run / "config.toml")
    )
    checkpoint = load_checkpoint(run, which)
    model = build_model(settings.model, isolate=False, segmented=False)
    check_weights(model, checkpoint.model)
    load_weights(model, checkpoint.model)
    tokenizer = folder.open_tokenizer(plugins)
    if identify(tokenizer).fingerprint != folder.facts().get("tokenizer_fingerprint"):
        raise MismatchError(f"the tokenizer in {run} is not the one that the model was trained with")
    return Trained(model.to(device).eval(), tokenizer, settings, checkpoint.step)
