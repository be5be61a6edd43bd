"""``processes``: worker processes on this machine, each busy with one unit at a time.

Written on pipes rather than on a library's pool for two promises: a worker that dies is noticed at once, and
no worker outlives its parent, however that ends.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from tokpack.errors import IncompleteError
from tokpack.executors.answers import answer, result_of

__all__ = ["ProcessExecutor"]

Unit = TypeVar("Unit")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection


class ProcessExecutor:
    """Runs units on ``workers`` processes."""

    def __init__(self, workers: int) -> None:
        self._count = workers
        self._workers: list[_Worker] = []

    def run(self, work: Callable[[Unit], Result], units: Iterable[Unit]) -> Iterator[Result]:
        """Yield results as they arrive.

        Raises:
            IncompleteError: a worker process died.
            Exception: whatever ``work`` raised first.
        """
        context = multiprocessing.get_context(_start_method())
        self._workers = [_start(context, work) for _ in range(self._count)]
        try:
            waiting = iter(units)
            busy = {worker.pipe: worker for worker in self._workers if _send_next(worker, waiting)}
            while busy:
                for pipe in multiprocessing.connection.wait(list(busy)):
                    worker = busy[pipe]  # type: ignore[index]
                    yield _receive(worker)
                    if not _send_next(worker, waiting):
                        del busy[pipe]  # type: ignore[arg-type]
        finally:
            self.close()

    def close(self) -> None:
        """End all workers at once; what they had not finished is lost and will be done again."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers = []


def _start_method() -> str:
    # Forked workers share the opened tokenizer and start in milliseconds, but only a process of one thread
    # can be forked safely.
    return "fork" if sys.platform == "linux" and threading.active_count() == 1 else "spawn"


def _start(context: Any, work: Callable[[Any], Any]) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work, os.getpid()), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _send_next(worker: _Worker, waiting: Iterator[Any]) -> bool:
    for unit in waiting:
        try:
            worker.pipe.send(unit)
        except OSError as error:
            raise _died(worker) from error
        return True
    return False


def _receive(worker: _Worker) -> Any:
    try:
        answered = worker.pipe.recv()
    except (EOFError, OSError) as error:
        raise _died(worker) from error
    return result_of(answered)


def _died(worker: _Worker) -> IncompleteError:
    worker.process.join(timeout=5)
    code = worker.process.exitcode
    how = (
        f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended ({code})"
    )
    return IncompleteError(
        f"worker process {worker.process.pid} {how}, perhaps for want of memory; "
        "run the same command again to continue, with fewer --workers if it happens again"
    )


def _serve(pipe: Connection, work: Callable[[Any], Any], parent: int) -> None:
    """Worker: answer units with results until the pipe closes."""
    # Ctrl-C and a batch system's SIGTERM go to the whole group; the parent decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with_parent(parent)
    while True:
        try:
            unit = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(answer(work, unit))


def _die_with_parent(parent: int) -> None:
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
