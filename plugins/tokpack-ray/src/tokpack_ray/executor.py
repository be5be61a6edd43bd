"""``ray``: units on the workers of a Ray cluster, or of one that is started on this machine.

Units read their inputs and write their results by path, so every node must see the same file system. What
travels through Ray is the opened tokenizer, once per worker, and small records.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from tokpack.errors import IncompleteError, StorageError
from tokpack.executors.answers import Answer, answer, result_of

__all__ = ["RayExecutor"]

Unit = TypeVar("Unit")
Result = TypeVar("Result")

#: Memory for objects on a cluster of our own; only records and the tokenizer pass through it.
_STORE_BYTES = 128 << 20
_SILENT: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


class RayExecutor:
    """Runs units on ``workers`` actors of one core each.

    The cluster is the one that ``RAY_ADDRESS`` names or that runs on this machine already; where there is
    none, one is started here and ends with the work.
    """

    def __init__(self, workers: int) -> None:
        self._count = workers
        self._actors: list[Any] = []
        self._ours = False

    def run(self, work: Callable[[Unit], Result], units: Iterable[Unit]) -> Iterator[Result]:
        """Yield results as they arrive. A worker gets units once it runs; none waits for one that does not.

        Raises:
            IncompleteError: a worker was lost, or its node lacks the folder, tokpack or a plugin.
            StorageError: the cluster cannot be reached.
            Exception: whatever ``work`` raised first.
        """
        self._connect()
        try:
            # In a list, so that Ray hands over the reference itself.
            task = [ray.put(_Task(work, Path.cwd()))]
            self._actors = [_RemoteWorker.remote() for _ in range(self._count)]
            busy = {actor.ready.remote(): actor for actor in self._actors}
            waiting = iter(units)
            unit = next(waiting, None)
            outstanding = 0
            while unit is not None or outstanding:
                (done,), _ = ray.wait(list(busy), num_returns=1)
                actor = busy.pop(done)
                answered: Answer | None = ray.get(done)
                if unit is not None:
                    busy[actor.answer.remote(task, unit)] = actor
                    outstanding += 1
                    unit = next(waiting, None)
                if answered is not None:
                    outstanding -= 1
                    yield result_of(answered)
        except RayError as error:
            raise IncompleteError(
                f"a Ray worker was lost or cannot work: {_last_line(error)}; see that every node has "
                "this folder, tokpack and the same plugins, then run the same command again to continue"
            ) from error
        finally:
            self.close()

    def close(self) -> None:
        """End all workers at once; what they had not finished is lost and will be done again."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
        if self._ours:
            ray.shutdown()
            self._ours = False

    def _connect(self) -> None:
        if ray.is_initialized():
            return
        try:
            self._ours = _join() or _start(self._count)
        except (RayError, OSError, RuntimeError, ValueError) as error:
            raise StorageError(
                f"cannot reach a Ray cluster: {_last_line(error)}; check RAY_ADDRESS and `ray status`, "
                "or use --executor processes"
            ) from error


@dataclass(frozen=True, slots=True)
class _Task:
    work: Callable[[Any], Any]
    directory: Path


class _Worker:
    """One core somewhere in the cluster."""

    def __init__(self) -> None:
        self._work: Callable[[Any], Any] | None = None

    def ready(self) -> None:
        """Answer once this worker runs."""

    def answer(self, task: list[Any], unit: Any) -> Answer:
        """Do one unit; the task is fetched for the first one."""
        if self._work is None:
            fetched: _Task = ray.get(task[0])
            os.chdir(fetched.directory)  # paths mean what they mean where the command was given
            self._work = fetched.work
        return answer(self._work, unit)


_RemoteWorker: Any = ray.remote(num_cpus=1)(_Worker)


def _join() -> bool:
    """Join a cluster that runs already; False if there is none and none was asked for."""
    address = os.environ.get("RAY_ADDRESS")
    if address and ":" in address:
        _knock(address)
    try:
        ray.init("auto", **_SILENT)
    except ConnectionError:
        if address:
            raise
        return False
    return True


def _knock(address: str) -> None:
    """Fail at once where nobody listens; Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    socket.create_connection((host, int(port)), timeout=5).close()


def _start(cores: int) -> bool:
    ray.init("local", num_cpus=cores, object_store_memory=_STORE_BYTES, include_dashboard=False, **_SILENT)
    return True


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
