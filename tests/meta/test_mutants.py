"""The kit must kill: for every rule there is a plugin that breaks it, and the rule must notice.

`mutants/` holds the suites of faulty plugins. A class ``Mutant…`` names in ``kills`` the rule that must fail
on it; a class ``Healthy…`` passes every rule. They run in a pytest of their own, only here.
"""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokpack.testing import (
    ExecutorConformance,
    FormatConformance,
    PluginConformance,
    SamplerConformance,
    SourceConformance,
    TokenizerConformance,
)

MUTANTS = Path(__file__).parent / "mutants"

SUITES = {
    "faulty_executors": ExecutorConformance,
    "faulty_formats": FormatConformance,
    "faulty_plugins": PluginConformance,
    "faulty_samplers": SamplerConformance,
    "faulty_sources": SourceConformance,
    "faulty_tokenizers": TokenizerConformance,
}

HOOKS = """
from tokpack.hookspecs import hookimpl
from tokpack.specs import FormatSpec, SamplerSpec
TOKPACK_HOOK_VERSION = {version}
{more}

@hookimpl
def tokpack_register_samplers():
    {body}
"""
ANNOUNCE = 'yield SamplerSpec("mine", "a sampler", open="{}")'


class Watcher:
    """Keeps the rule of each mutant and notes how it went."""

    def __init__(self) -> None:
        self.rules: dict[str, str] = {}
        self.outcomes: dict[tuple[str, str], set[str]] = defaultdict(set)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        kept = []
        for item in items:
            assert isinstance(item, pytest.Function)
            rule = getattr(item.cls, "kills", None)
            if rule is not None:
                self.rules[item.cls.__name__] = rule
            if rule is None or item.originalname == rule:
                kept.append(item)
        items[:] = kept

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Function) -> Iterator[None]:
        report = yield
        outcome = "error" if report.failed and report.when != "call" else report.outcome
        self.outcomes[item.cls.__name__, item.originalname].add(outcome)
        return report


def run(module: str) -> Watcher:
    watcher = Watcher()
    arguments = [str(MUTANTS / f"{module}.py"), "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header"]
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*arguments, "-o", "python_classes=Mutant Healthy"], plugins=[watcher])
    return watcher


@pytest.fixture
def hook_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = ANNOUNCE.format("tokpack.samplers.packed:open_sampler")
    for name, version, more, body in (
        ("sound", 1, "", good),
        ("of_version_2", 2, "", good),
        ("silent", 1, "", "return ()"),
        ("dangling", 1, "", ANNOUNCE.format("tokpack.samplers.packed:no_such_thing")),
        ("uncallable", 1, "", ANNOUNCE.format("tokpack.hookspecs:HOOK_VERSION")),
        ("heavy", 1, "import numpy", good),
    ):
        (tmp_path / f"hooks_{name}.py").write_text(HOOKS.format(version=version, more=more, body=body))
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("module", SUITES)
@pytest.mark.usefixtures("hook_modules")
def test_every_mutant_is_killed_by_its_rule(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(MUTANTS)
    watcher = run(module)
    healthy = {key: outcomes for key, outcomes in watcher.outcomes.items() if key[0].startswith("Healthy")}
    assert healthy
    assert {key: outcomes for key, outcomes in healthy.items() if outcomes - {"passed", "skipped"}} == {}
    alive = {
        mutant: rule
        for mutant, rule in watcher.rules.items()
        if "failed" not in watcher.outcomes[mutant, rule]
    }
    assert alive == {}
    rules = {name for name in dir(SUITES[module]) if name.startswith("test_")}
    assert rules - set(watcher.rules.values()) == set(), "a rule without a mutant"
