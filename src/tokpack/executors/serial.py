"""``serial``: one unit after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["SerialExecutor"]

Unit = TypeVar("Unit")
Result = TypeVar("Result")


class SerialExecutor:
    """Runs everything in the caller's process; what tests and debuggers like."""

    def __init__(self, workers: int = 1) -> None:
        pass

    def run(self, work: Callable[[Unit], Result], units: Iterable[Unit]) -> Iterator[Result]:
        """Yield ``work(unit)`` in order."""
        return map(work, units)

    def close(self) -> None:
        """Nothing runs between calls."""
