"""One fault for every rule of `PluginConformance`; the hook modules are written into the test's folder."""

from __future__ import annotations

from tokpack.testing import PluginConformance


class Suite(PluginConformance):
    installed = False


class HealthyPlugin(Suite):
    module = "hooks_sound"


class MutantIsOfAnotherVersion(Suite):
    kills, module = "test_hook_version", "hooks_of_version_2"


class MutantAnnouncesNothing(Suite):
    kills, module = "test_something_is_announced", "hooks_silent"


class MutantTargetIsMissing(Suite):
    kills, module = "test_every_target_can_be_called", "hooks_dangling"


class MutantTargetIsNoFunction(Suite):
    kills, module = "test_every_target_can_be_called", "hooks_uncallable"


class MutantImportsNumpy(Suite):
    kills, module = "test_the_hook_module_imports_nothing_heavy", "hooks_heavy"


class MutantIsNotInstalled(Suite):
    kills, module, installed = "test_it_is_discovered", "hooks_sound", True
