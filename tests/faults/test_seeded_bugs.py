"""Tests of the tests: bugs put into a copy of the code are found by the tests that are there to find them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest
import seeded_in_feeding
import seeded_in_storage
from seeded import GROUPS, ROOT, SeededBug, group_of

import tokpack

#: Every fourth one is of the same group.
BUGS = [*seeded_in_storage.BUGS, *seeded_in_feeding.BUGS]
CHOSEN = group_of(os.environ.get("TOKPACK_SEEDED_GROUP", ""), tokpack.__version__)
#: What a patch that was clumsily written would raise: not what a test is to find.
CLUMSY = (
    "ImportError",
    "ModuleNotFoundError",
    "SyntaxError",
    "NameError",
    "IndentationError",
    "hypothesis.errors.",
)
RUN = """
import pathlib, sys, importlib, pytest
module, folder, *arguments = sys.argv[1:]
found = importlib.import_module(module).__file__
assert pathlib.Path(found).is_relative_to(folder), f"{found} is not the copy in {folder}"
sys.exit(pytest.main(arguments))
"""


def package_of(bug: SeededBug) -> Path:
    """The package that holds the bug's file, relative to the repository."""
    parts = Path(bug.file).parts
    return Path(*parts[: parts.index("src") + 2])


def run_tests(copy: Path, module: str, tests: tuple[str, ...]) -> tuple[int, ET.Element, str]:
    """Run tests against the code in ``copy``; return the exit code, what became of them, and the output."""
    report = copy / "report.xml"
    ours = ("PYTEST_", "TOKPACK_PROVED")  # meant for the run that starts this one
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [
            *(sys.executable, "-c", RUN, module, str(copy)),
            *("-q", "-x", "--tb=short", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist"),
            *(
                f"--basetemp={copy / 'tmp'}",
                f"--junitxml={report}",
                "-o",
                "junit_family=xunit1",
                "--timeout=60",
                *tests,
            ),
        ],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    output = done.stdout[-6000:] + done.stderr[-2000:]
    assert report.exists(), output
    return done.returncode, ET.parse(report).getroot(), output


@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(bug, marks=[] if number % GROUPS == CHOSEN else pytest.mark.nightly, id=bug.name)
        for number, bug in enumerate(BUGS)
    ],
)
def test_the_bug_is_caught(bug: SeededBug, memory: Path, proved) -> None:
    package = package_of(bug)
    shutil.copytree(ROOT / package, memory / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    target = memory / package.name / Path(bug.file).relative_to(package)
    target.write_text(bug.apply(target.read_text()))
    code, report, output = run_tests(memory, package.name, bug.tests)
    assert code == 1, f"the tests named did not fail ({code}):\n{output}"
    failures = report.findall(".//testcase/failure")
    assert failures, f"nothing failed in a test itself:\n{output}"
    for failure in failures:
        message = failure.get("message", "")
        assert not message.startswith(CLUMSY), f"it failed for a wrong reason: {message}\n{output}"
    proved("seeded bugs caught", 1)


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_without_a_bug_the_same_tests_pass(memory: Path) -> None:
    """So it is the bug that makes them fail, and not the copy."""
    for package in sorted({package_of(bug) for bug in BUGS}):
        shutil.copytree(ROOT / package, memory / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    tests = sorted({test for bug in BUGS for test in bug.tests})
    code, _, output = run_tests(memory, "tokpack", tuple(tests))
    assert code == 0, output


def test_every_bug_fits_the_present_code() -> None:
    """Also of those that this run does not try."""
    problems = []
    for bug in BUGS:
        path = ROOT / bug.file
        try:
            bug.apply(path.read_text())
        except (AssertionError, OSError) as error:
            problems.append(str(error))
        for test in bug.tests:
            file, _, name = test.partition("::")
            if f"def {name.partition('[')[0]}(" not in (ROOT / file).read_text() and name:
                problems.append(f"seeded bug {bug.name!r} names {test}, which is not there")
    assert not problems, "\n\n".join(problems)


def test_there_are_forty_and_the_groups_are_alike() -> None:
    assert len(BUGS) >= 40
    assert len({bug.name for bug in BUGS}) == len({(bug.file, bug.old) for bug in BUGS}) == len(BUGS)
    sizes = Counter(number % GROUPS for number in range(len(BUGS)))
    assert min(sizes.values()) >= 10
    rooms = {bug.name.partition(":")[0] for bug in BUGS}
    assert len(rooms) > 15


def test_the_choice_can_be_repeated() -> None:
    assert group_of("", "1.2.3") == group_of("", "1.2.3")
    assert {group_of("", f"0.{minor}.0") for minor in range(30)} == set(range(GROUPS))
    assert [group_of(str(number), "1.2.3") for number in range(GROUPS)] == list(range(GROUPS))
