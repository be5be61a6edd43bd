"""What a worker sends back, whatever lies between it and its parent: a result, or an error that travels."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

__all__ = ["Answer", "answer", "result_of"]

Unit = TypeVar("Unit")

#: Whether the work was done, and its result or the error that it raised.
Answer: TypeAlias = tuple[bool, Any]


def answer(work: Callable[[Unit], Any], unit: Unit) -> Answer:
    """Do the work; an error is an answer too, and its class and message arrive with it."""
    try:
        return True, work(unit)
    except Exception as error:
        return False, _portable(error)


def result_of(answered: Answer) -> Any:
    """Return the result.

    Raises:
        Exception: whatever the work raised.
    """
    good, value = answered
    if not good:
        raise value
    return value


def _portable(error: Exception) -> Exception:
    """Return ``error`` itself if it travels between processes, else its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
