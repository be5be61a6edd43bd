"""Ending a run when asked to: SIGTERM and Ctrl-C are noted, and honoured where it is safe."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

__all__ = ["StopRequest", "StopWaiting"]


class StopWaiting(Exception):  # noqa: N818 - no error: leaves a wait that has nothing to lose
    """Raised inside `StopRequest.interruptible` when a signal comes."""


class StopRequest:
    """Catches SIGTERM and SIGINT while it is entered; a second Ctrl-C is an ordinary KeyboardInterrupt."""

    def __init__(self) -> None:
        self.reason = ""  # name of the signal, "" as long as none came
        self.number = 0
        self._interruptible = False
        self._previous: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return bool(self.reason)

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.reason and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason, self.number = signal.Signals(number).name, number
        if self._interruptible:
            raise StopWaiting

    @contextmanager
    def interruptible(self, allowed: bool = True) -> Iterator[None]:
        """Let a signal break off what is inside, by StopWaiting: only what leaves nothing half done."""
        self._interruptible = allowed
        try:
            if allowed and self.reason:
                raise StopWaiting
            yield
        finally:
            self._interruptible = False
