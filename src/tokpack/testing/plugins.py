"""What every plugin must do, whatever it announces."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import entry_points
from typing import ClassVar

import pytest

from tokpack.hookspecs import HOOK_VERSION
from tokpack.plugins import ENTRY_POINT_GROUP, Plugins, discover
from tokpack.specs import Spec, load

__all__ = ["PluginConformance", "isolated_plugins"]

_ALLOWED = {"tokpack", "pluggy", "importlib_metadata", "typing_extensions"}
_TARGETS = ("open", "train", "accelerate", "writer", "reader")

_IMPORTS = """
import sys
before = set(sys.modules)
import {module}
print(*sorted({{name.partition(".")[0] for name in set(sys.modules) - before}}))
"""


def isolated_plugins(*plugins: object) -> Plugins:
    """Return `Plugins` with these hook modules or objects and nothing that the machine has installed."""
    isolated = Plugins()
    for number, plugin in enumerate(plugins, 1):
        isolated.add(plugin, f"{getattr(plugin, '__name__', 'plugin')} (number {number})")
    return isolated


class PluginConformance:
    """Subclass it, set ``module`` to the hook module, and pytest does the rest."""

    #: The hook module, as the entry point names it: "tokpack_parquet.plugin".
    module: ClassVar[str]
    #: False for a plugin that is not installed, in tests of tests.
    installed: ClassVar[bool] = True

    @pytest.fixture
    def records(self) -> list[Spec]:
        """Everything that the plugin announces, registered on its own."""
        plugins = isolated_plugins(importlib.import_module(self.module))
        return [registry[name] for registry in plugins.registries for name in registry]

    def test_hook_version(self) -> None:
        """The module says for which hooks it was made, and they are these."""
        assert importlib.import_module(self.module).TOKPACK_HOOK_VERSION == HOOK_VERSION

    def test_something_is_announced(self, records: list[Spec]) -> None:
        """Every record registers, under a name of its own, and there is at least one."""
        assert records

    def test_every_target_can_be_called(self, records: list[Spec]) -> None:
        """Every ``"module:attr"`` leads to something to call."""
        for record in records:
            for field in fields(record):
                target = getattr(record, field.name)
                if field.name in _TARGETS and target is not None:
                    assert callable(load(target)), f"{record.name}: {field.name} is {target}"

    def test_the_hook_module_imports_nothing_heavy(self) -> None:
        """It is imported by every `tokpack --help`: the standard library, tokpack and itself, no more."""
        finished = subprocess.run(
            [sys.executable, "-c", _IMPORTS.format(module=self.module)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
        )
        allowed = sys.stdlib_module_names | _ALLOWED | {self.module.partition(".")[0]}
        imported = {name for name in finished.stdout.split() if not name.startswith("_")}
        assert imported <= allowed, f"{self.module} imports {', '.join(sorted(imported - allowed))}"

    def test_it_is_discovered(self) -> None:
        """An installed entry point names the module, and discovery takes it."""
        if not self.installed:
            pytest.skip("the author says that it is not installed")
        entries = [entry for entry in entry_points(group=ENTRY_POINT_GROUP) if entry.value == self.module]
        assert entries, f"no entry point of group {ENTRY_POINT_GROUP!r} names {self.module}"
        broken = {provider.plugin: error for provider, error in discover().broken.items()}
        assert entries[0].name not in broken, broken
