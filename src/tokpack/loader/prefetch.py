"""A ring of slots that a thread refills while the consumer works on another."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["Prefetcher"]

S = TypeVar("S")

#: The thread is a daemon: one that is still stuck after this ends with the process.
_PATIENCE_S = 5.0


class Prefetcher(Generic[S]):
    """Fills ``slots`` in turn, in one thread, and hands them out in the order in which they were filled.

    ``fill(slot, number)`` is called for number ``first``, ``first + 1``, …. Whatever it raises is raised by
    `next`, there and then: an error never looks like a wait or an end.
    """

    def __init__(self, slots: Sequence[S], fill: Callable[[S, int], None], first: int) -> None:
        self._free: queue.SimpleQueue[S | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[S | BaseException] = queue.SimpleQueue()
        self._handed_out: S | None = None
        self._failure: BaseException | None = None
        for slot in slots:
            self._free.put(slot)
        # The thread holds no reference to this object, so an abandoned loader ends its thread.
        self._thread = threading.Thread(
            target=_work, args=(self._free, self._ready, fill, first), name="tokpack-prefetch", daemon=True
        )
        self._stop = weakref.finalize(self, self._free.put, None)
        self._thread.start()

    def next(self) -> S:
        """Take back the slot handed out before, and return the next filled one."""
        if self._failure is not None:
            raise self._failure
        if self._handed_out is not None:
            self._free.put(self._handed_out)
            self._handed_out = None
        filled = self._take()
        if isinstance(filled, BaseException):
            self._failure = filled
            raise filled
        self._handed_out = filled
        return filled

    def close(self) -> None:
        """End the thread and wait for it, but not for ever: a read that hangs cannot be ended from here."""
        self._stop()
        self._thread.join(_PATIENCE_S)

    def _take(self) -> S | BaseException:
        while True:
            try:
                return self._ready.get(timeout=1.0)
            except queue.Empty:
                # A thread killed from outside, as at a fork, would otherwise be waited for without end.
                if not self._thread.is_alive() and self._ready.empty():
                    return RuntimeError("the prefetch thread is gone; loaders cannot cross a fork once used")


def _work(
    free: queue.SimpleQueue[S | None],
    ready: queue.SimpleQueue[S | BaseException],
    fill: Callable[[S, int], None],
    number: int,
) -> None:
    while (slot := free.get()) is not None:
        try:
            fill(slot, number)
        except BaseException as error:  # it belongs to the consumer, whatever it is
            ready.put(error)
            return
        ready.put(slot)
        number += 1
