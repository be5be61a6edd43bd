"""Weights & Biases, online or, with ``WANDB_MODE=offline``, into the run folder for a later `wandb sync`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from tokpack.errors import UsageError
from tokpack.protocols import RunInfo

__all__ = ["WandbTracker"]


class WandbTracker:
    """Logs to one W&B run per run folder; a resumed run goes on in it. The project is ``WANDB_PROJECT``."""

    def __init__(self, run: RunInfo) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UsageError("tracker 'wandb' needs a package; pip install wandb") from error
        identity = hashlib.sha256(str(run.directory.resolve()).encode()).hexdigest()[:16]
        self._run: Any = wandb.init(
            name=run.name,
            id=identity,
            resume="allow" if run.step else None,
            dir=str(run.directory),
            config={**run.settings, "facts": dict(run.facts)},
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send numbers."""
        self._run.log(dict(metrics), step=step)

    def text(self, step: int, kind: str, text: str) -> None:
        """Send words, as part of the step's history."""
        self._run.log({kind: text}, step=step)

    def close(self) -> None:
        """Finish the W&B run; what could not be sent stays in the folder."""
        self._run.finish()
