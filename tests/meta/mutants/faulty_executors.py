"""One fault for every rule of `ExecutorConformance`, each put into the serial executor."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tokpack.executors.serial import SerialExecutor
from tokpack.plugins import discover
from tokpack.testing import ExecutorConformance


class Suite(ExecutorConformance):
    name = "serial"
    opener = "SerialExecutor"

    @pytest.fixture
    def spec(self):
        return replace(discover().executors["serial"], open=f"{__name__.rpartition('.')[2]}:{self.opener}")


class HealthySerial(Suite):
    pass


class Forgetful(SerialExecutor):
    def run(self, work, units):
        return iter(list(super().run(work, units))[:-1])


class MutantLosesTheLastUnit(Suite):
    opener = "Forgetful"
    kills = "test_every_unit_is_done_once"


class Greedy(SerialExecutor):
    def run(self, work, units):
        return super().run(work, list(units))


class MutantTakesAllUnitsAtOnce(Suite):
    opener = "Greedy"
    kills = "test_units_are_taken_when_they_can_be_done"


class Elsewhere(SerialExecutor):
    def run(self, work, units):
        here = Path.cwd()
        os.chdir("/")
        try:
            yield from super().run(work, units)
        finally:
            os.chdir(here)


class MutantWorksInAnotherFolder(Suite):
    opener = "Elsewhere"
    kills = "test_paths_mean_what_they_mean_to_the_caller"


class Silent(SerialExecutor):
    def run(self, work, units):
        for unit in units:
            try:
                yield work(unit)
            except Exception:
                yield None


class MutantSwallowsErrors(Suite):
    opener = "Silent"
    kills = "test_the_error_of_a_unit_arrives"


class OnceOnly(SerialExecutor):
    def close(self):
        del self.__class__.pool

    def __init__(self, workers):
        type(self).pool = workers


class MutantCannotBeClosedTwice(Suite):
    opener = "OnceOnly"
    kills = "test_closing_twice_is_closing_once"
