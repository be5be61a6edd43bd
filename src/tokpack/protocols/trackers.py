"""What a tracker is: a place where training metrics go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a tracker is told when training begins.

    ``settings`` is the run's whole configuration and ``facts`` what was found out about it (parameters,
    device, kernel), both JSON-ready. ``step`` is where the run goes on: 0, or the step it resumes from.
    """

    name: str
    directory: Path
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    step: int
    max_iters: int


class Tracker(Protocol):
    """A place where training metrics go. Called from one thread, on rank 0 only."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take numbers of one step: ``loss``, ``lr``, ``tokens_per_s``, ``validation_loss``, …"""
        ...

    def text(self, step: int, kind: str, text: str) -> None:
        """Take words: a ``sample`` of the model, or a ``note`` such as a spike and its documents."""
        ...

    def close(self) -> None:
        """Write out everything; the run is over, for now or for good."""
        ...
