"""What the suites have in common: how properties are run, and how work is done in many threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from hypothesis import HealthCheck, Phase, settings

__all__ = ["THREADS", "in_threads", "property_of_a_plugin", "some_sizes"]

THREADS = 8

T = TypeVar("T")

#: Few examples and no deadline: the machine is the author's. The same examples every time: a verdict on a
#: plugin must not depend on luck, nor on what another plugin failed on. Fixtures hold nothing that examples
#: change, and one method runs in every subclass, which Hypothesis would take for a mistake.
property_of_a_plugin = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[
        Phase.explicit,
        Phase.generate,
        Phase.shrink,
    ],  # explaining takes longer than all these
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)


def in_threads(work: Callable[[], T]) -> list[T]:
    """Run ``work`` in `THREADS` threads at once and return what each gave."""
    with ThreadPoolExecutor(THREADS) as pool:
        return [future.result() for future in [pool.submit(work) for _ in range(THREADS)]]


def some_sizes(largest: int) -> list[int]:
    """Return sizes from 1 to ``largest``: the small ones, the large ones, and about a hundred between."""
    everything = range(1, largest + 1)
    return sorted({*everything[:60], *everything[:: largest // 100 + 1], *everything[-60:]})
