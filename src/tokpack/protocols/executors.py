"""What an executor is: something that runs units of work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

Unit = TypeVar("Unit")
Result = TypeVar("Result")


class Executor(Protocol):
    """Runs units of work. Results may arrive in any order; only small records travel."""

    def run(self, work: Callable[[Unit], Result], units: Iterable[Unit]) -> Iterator[Result]:
        """Yield ``work(unit)`` for every unit as each finishes; the first failure is raised."""
        ...

    def close(self) -> None:
        """Stop all workers, finished or not."""
        ...
