"""Prepare token data for language-model training and feed it.

The public names below are imported on first use (PEP 562), so that `import tokpack` costs nothing and a
plugin's hook module, which imports this package, stays quick.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "SamplerOptions": "tokpack.protocols",
    "TextBatch": "tokpack.batches",
    "TokenBatch": "tokpack.batches",
    "TokpackError": "tokpack.errors",
    "TrainingOptions": "tokpack.protocols",
    "create_dataloader": "tokpack.loader.from_text",
    "encode": "tokpack.encoding.api",
    "hookimpl": "tokpack.hookspecs",
    "open_dataset": "tokpack.dataset.store",
    "open_loader": "tokpack.loader",
    "open_sampler": "tokpack.samplers",
    "open_tokenizer": "tokpack.tokenizers.opening",
    "train_tokenizer": "tokpack.tokenizers.training",
}

__all__ = [*sorted(_PUBLIC), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'tokpack' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
