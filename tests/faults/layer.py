"""A file layer between tokpack and the operating system that can fail, tear and crash at the k-th operation.

It replaces the functions of `os` and `io` by which all of tokpack's Python code creates, writes, syncs,
renames and removes files. Only files below one folder are its business. `test_strace.py` does the same to the
real command from outside, so what would bypass the layer meets faults all the same.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

CRASHED = 137
_real_open = io.open


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: ``target`` is a new name, ``data`` what is written at ``offset``."""

    kind: str  # create, write, truncate, sync, close, rename, exchange, unlink, mkdir, rmdir
    path: str
    target: str = ""
    offset: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at operation ``at``, once or from then on (``forever``).

    ``crash-before`` and ``crash-after`` end the process; ``torn`` writes ``keep`` bytes and ends it;
    ``short`` writes ``keep`` bytes and says so; ``error`` is what the system answers instead.
    """

    how: str
    at: int
    keep: int = 0
    error: int = 0
    forever: bool = False

    def __str__(self) -> str:
        name = errno.errorcode.get(self.error, self.how)
        size = f" after {self.keep} bytes" if self.keep else ""
        return f"{name}{' for ever' if self.forever else ''} at {self.at}{size}"


class Layer:
    """Counts and records the operations below ``root``, and lets ``fault`` happen."""

    def __init__(self, root: Path, fault: Fault | None = None) -> None:
        self.root = os.path.realpath(root) + os.sep
        self.fault = fault
        self.log: list[Operation] = []

    def covers(self, path: str) -> bool:
        return path.startswith(self.root)

    def perform(
        self, operation: Operation, act: Callable[[], Any], part: Callable[[int], Any] | None = None
    ) -> Any:
        """Do ``operation`` by ``act``, or what the fault makes of it; ``part(n)`` does n bytes of a write."""
        index, fault = len(self.log), self.fault
        self.log.append(operation)
        if fault is None or index < fault.at or (index > fault.at and not fault.forever):
            return act()
        if fault.how == "error":
            if fault.error not in _ERRORS[operation.kind]:
                return act()  # a full disk does not mind that files are removed
            if operation.kind == "close":
                act()
            raise OSError(fault.error, os.strerror(fault.error), operation.path)
        if fault.how == "short":
            return part(fault.keep) if part is not None else act()
        if fault.how == "torn" and part is not None:
            part(fault.keep)
        elif fault.how == "crash-after":
            act()
        os._exit(CRASHED)


class _Raw(io.FileIO):
    """A file whose every write goes through the layer, however it is buffered above."""

    def __init__(self, layer: Layer, path: str, mode: str) -> None:
        self._layer = layer
        self._path = path
        new = "x" in mode or not os.path.exists(path)  # noqa: PTH110
        kind = "create" if new else "truncate" if "w" in mode else ""
        opening = lambda: super(_Raw, self).__init__(path, mode)  # noqa: E731
        layer.perform(Operation(kind, path), opening) if kind else opening()

    def write(self, data: Any) -> int:
        content = bytes(memoryview(data).cast("B"))
        append = "a" in self.mode
        offset = os.fstat(self.fileno()).st_size if append else self.tell()
        return self._layer.perform(
            Operation("write", self._path, offset=offset, data=content),
            lambda: super(_Raw, self).write(content),
            lambda count: super(_Raw, self).write(content[:count]),
        )

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        operation = Operation("truncate", self._path, offset=size)
        return self._layer.perform(operation, lambda: super(_Raw, self).truncate(size))

    def close(self) -> None:
        if self.closed or not hasattr(self, "_path"):
            return super().close()
        return self._layer.perform(Operation("close", self._path), super().close)


def _absolute(path: Any, dir_fd: int | None = None) -> str:
    base = os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else os.getcwd()  # noqa: PTH109, PTH115
    return os.path.normpath(os.path.join(base, os.fsdecode(path)))  # noqa: PTH118


def _open(layer: Layer) -> Callable[..., Any]:
    def open_file(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        writes = any(letter in mode for letter in "wxa+")
        if isinstance(file, int) or not writes or not layer.covers(path := _absolute(file)):
            return _real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = _Raw(layer, path, mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline)

    return open_file


def _naming(layer: Layer, kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """A function that changes one name: unlink, mkdir, rmdir."""

    makes = kind == "mkdir"

    def change(path: Any, *args: Any, dir_fd: int | None = None, **options: Any) -> Any:
        absolute = _absolute(path, dir_fd)
        act = lambda: real(path, *args, dir_fd=dir_fd, **options)  # noqa: E731
        if not layer.covers(absolute) or os.path.lexists(absolute) is makes:
            return act()  # not ours, or refused in any case
        return layer.perform(Operation(kind, absolute), act)

    return change


def _moving(layer: Layer, kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """A function that takes two names: rename, replace, exchange."""

    def move(source: Any, target: Any) -> Any:
        old, new = _absolute(source), _absolute(target)
        act = lambda: real(source, target)  # noqa: E731
        return layer.perform(Operation(kind, old, new), act) if layer.covers(old) else act()

    return move


def _sync(layer: Layer, real: Callable[[int], None]) -> Callable[[int], None]:
    def sync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
        act = lambda: real(descriptor)  # noqa: E731
        return layer.perform(Operation("sync", path), act) if layer.covers(path + os.sep) else act()

    return sync


@contextmanager
def interposed(root: Path, fault: Fault | None = None) -> Iterator[Layer]:
    """Put a layer under all Python code of this process, for files below ``root``."""
    from tokpack.dataset.publish import exchange_directories

    layer = Layer(root, fault)
    replaced = {
        "fsync": _sync(layer, os.fsync),
        "rename": _moving(layer, "rename", os.rename),
        "replace": _moving(layer, "rename", os.replace),
        "unlink": _naming(layer, "unlink", os.unlink),
        "remove": _naming(layer, "unlink", os.remove),
        "mkdir": _naming(layer, "mkdir", os.mkdir),
        "rmdir": _naming(layer, "rmdir", os.rmdir),
    }
    open_file = _open(layer)
    exchange = _moving(layer, "exchange", exchange_directories)
    with (
        mock.patch.multiple(os, **replaced),
        mock.patch.object(io, "open", open_file),
        mock.patch.object(builtins, "open", open_file),
        # One system call that Python does not know, so it is made through ctypes.
        mock.patch("tokpack.encoding.workspace.exchange_directories", exchange),
    ):
        yield layer


def faults_of(log: list[Operation], *, every: bool) -> Iterator[Fault]:
    """Yield faults for every operation of a recorded run: all that make sense, or a few of each sort."""
    for at, operation in enumerate(log):
        errors = _ERRORS[operation.kind]
        size = len(operation.data)
        if at == 0 or every:  # before one operation is after the one before it
            yield Fault("crash-before", at)
        yield Fault("crash-after", at)
        if not every:
            yield Fault("error", at, error=errors[at % len(errors)], forever=at % 3 == 0)
        for error in errors if every else ():
            yield Fault("error", at, error=error)
            yield Fault("error", at, error=error, forever=True)
        if size > 1:
            yield Fault("short", at, size // 2)
            for keep in sorted({1, size // 2, size - 1}) if every else (size // 2,):
                yield Fault("torn", at, keep)


_SPACE = (errno.ENOSPC, errno.EIO)
_ERRORS: dict[str, tuple[int, ...]] = {
    "create": (*_SPACE, errno.EMFILE),
    "write": (*_SPACE, errno.EDQUOT),
    "truncate": (errno.EIO,),
    "sync": _SPACE,
    "close": _SPACE,
    "rename": _SPACE,
    "exchange": (errno.EIO,),
    "unlink": (errno.EIO,),
    "mkdir": _SPACE,
    "rmdir": (errno.EIO,),
}
