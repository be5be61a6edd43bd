"""TensorBoard event files, in ``tensorboard/`` of the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tokpack.errors import UsageError
from tokpack.protocols import RunInfo

__all__ = ["TensorBoardTracker"]


class TensorBoardTracker:
    """Writes scalars and texts. Steps after the one that a run resumes from are purged."""

    def __init__(self, run: RunInfo) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError("tracker 'tensorboard' needs a package; pip install tensorboard") from error
        self._writer: Any = cast(Any, SummaryWriter)(
            str(run.directory / "tensorboard"), purge_step=run.step + 1 if run.step else None
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write each number as a scalar."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def text(self, step: int, kind: str, text: str) -> None:
        """Write the words."""
        self._writer.add_text(kind, text, step)

    def close(self) -> None:
        """Write out and close."""
        self._writer.close()
