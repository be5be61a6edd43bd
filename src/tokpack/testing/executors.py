"""What an executor must do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tokpack.errors import DocumentError
from tokpack.plugins import discover
from tokpack.protocols import Executor
from tokpack.specs import ExecutorSpec, load

__all__ = ["ExecutorConformance"]


class ExecutorConformance:
    """Subclass it, set ``name`` to the executor's name, and pytest does the rest."""

    #: Name under which the executor is registered.
    name: ClassVar[str]
    workers: ClassVar[int] = 2

    @pytest.fixture
    def spec(self) -> ExecutorSpec:
        """The record under test."""
        return discover().executors[self.name]

    @pytest.fixture
    def executor(self, spec: ExecutorSpec) -> Iterator[Executor]:
        """A new executor, closed after the test."""
        opened = load(spec.open)(self.workers)
        yield opened
        opened.close()

    @pytest.mark.parametrize("count", [0, 1, 2, 25])
    def test_every_unit_is_done_once(self, executor: Executor, count: int) -> None:
        """As many results as units, whatever the order and however few the units."""
        assert sorted(executor.run(_square, range(count))) == [number * number for number in range(count)]

    def test_units_are_taken_when_they_can_be_done(self, executor: Executor) -> None:
        """A million units are never held at one time."""
        units = iter(range(1_000_000))
        results = executor.run(_square, units)
        assert next(results) >= 0
        assert next(units) < 1000  # the first that was not taken
        executor.close()

    def test_paths_mean_what_they_mean_to_the_caller(
        self, executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Relative paths of inputs and outputs are those of the command's own folder."""
        monkeypatch.chdir(tmp_path)
        assert list(executor.run(_where, [0])) == [os.path.realpath(tmp_path)]

    @pytest.mark.parametrize(
        ("work", "kind", "message"),
        [("_refuse", DocumentError, "a.txt:7: no"), ("_fail_oddly", Exception, "cannot travel")],
    )
    def test_the_error_of_a_unit_arrives(
        self, executor: Executor, work: str, kind: type[Exception], message: str
    ) -> None:
        """With its class and its message where both can travel, else with its message."""
        function: Callable[[int], Any] = globals()[work]
        with pytest.raises(kind, match=message):
            list(executor.run(function, range(5)))

    def test_closing_twice_is_closing_once(self, executor: Executor) -> None:
        """Also in the midst of work."""
        next(executor.run(_square, range(10)))
        executor.close()
        executor.close()


def _square(number: int) -> int:
    return number * number


def _where(_: int) -> str:
    return os.path.realpath(".")


def _refuse(_: int) -> None:
    raise DocumentError("a.txt:7: no")


class _OddError(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"cannot travel {first}{second}")


def _fail_oddly(_: int) -> None:
    raise _OddError(1, 2)
