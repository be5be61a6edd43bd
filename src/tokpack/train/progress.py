"""Where a run stands: plain numbers, saved with every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from tokpack.errors import DamagedError

__all__ = ["Progress"]


@dataclass(slots=True)
class Progress:
    """Counters. ``evaluated``, ``sampled`` and ``saved`` name the last step after which each was done."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    evaluated: int = -1
    sampled: int = -1
    saved: int = -1
    best_loss: float | None = None
    best_step: int = -1
    evaluations_without_gain: int = 0
    recent_losses: list[float] = field(default_factory=list)

    def count_evaluation(self, loss: float) -> None:
        """Note the validation loss of the present step; a loss that is no number is no gain."""
        self.evaluated = self.step
        self._outdate()
        if self.best_loss is None or loss < self.best_loss:
            self.best_loss, self.best_step, self.evaluations_without_gain = loss, self.step, 0
        else:
            self.evaluations_without_gain += 1

    def count_sample(self) -> None:
        """Note that a sample of the present step was written."""
        self.sampled = self.step
        self._outdate()

    def _outdate(self) -> None:
        """A run stopped before it evaluated saved this step already, and must save it again after."""
        if self.saved == self.step:
            self.saved = -1

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Progress:
        """Read what `to_dict` returned. Raises DamagedError."""
        try:
            return msgspec.convert(values, cls)
        except (msgspec.ValidationError, TypeError) as error:
            raise DamagedError(f"the checkpoint's counters are damaged: {error}") from error
