"""Finding plugins: what is announced is there, what is broken is reported, and nothing is half there."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tokpack import plugins as host
from tokpack.errors import PluginError, UnknownPluginError, UsageError
from tokpack.hookspecs import HOOK_VERSION, hookimpl
from tokpack.plugins import KNOWN_ELSEWHERE, Plugins, Provider, Registry, discover
from tokpack.specs import (
    CommandSpec,
    ExecutorSpec,
    FormatSpec,
    SamplerSpec,
    SourceSpec,
    Spec,
    TokenizerSpec,
    TrackerSpec,
    load,
)
from tokpack.testing import isolated_plugins

FORMAT = FormatSpec("mine", "a format", suffix=".mine", writer="m:Writer", reader="m:Reader")
SAMPLER = SamplerSpec("mine", "a sampler", open="m:open_sampler")


def plugin(*, version: Any = HOOK_VERSION, **hooks: Callable[[], Any]) -> types.ModuleType:
    """A hook module; ``plugin(formats=lambda: [FORMAT])`` announces a format."""
    module = types.ModuleType("a_plugin")
    if version is not None:
        module.__dict__["TOKPACK_HOOK_VERSION"] = version
    for kind, hook in hooks.items():
        name = f"tokpack_register_{kind}"
        module.__dict__[name] = hookimpl(hook)
    return module


def everything(plugins: Plugins) -> dict[str, list[str]]:
    return {registry.kind: list(registry) for registry in plugins.registries if len(registry)}


def test_what_is_announced_is_there() -> None:
    records: dict[str, Spec] = {
        "tokenizers": TokenizerSpec("mine", "a tokenizer", open="m:open"),
        "formats": FORMAT,
        "sources": SourceSpec("mine", "a source", suffixes=(".mine",), open="m:open"),
        "samplers": SAMPLER,
        "executors": ExecutorSpec("mine", "an executor", open="m:open"),
        "trackers": TrackerSpec("mine", "a tracker", open="m:open"),
        "commands": CommandSpec("mine", "a command", open="m:open"),
    }
    plugins = Plugins()
    hooks = {kind: (lambda record=record: [record]) for kind, record in records.items()}
    plugins.add(plugin(**hooks), Provider("mine", "tokpack-mine", "1.2"))
    assert {f"{registry.kind}s": registry["mine"] for registry in plugins.registries} == records
    assert str(plugins.formats.provider("mine")) == "mine (tokpack-mine 1.2)"
    assert "mine" in plugins.formats
    assert plugins.formats.get("other") is None


def test_generators_are_welcome_and_nothing_is_imported() -> None:
    def announce() -> Iterator[FormatSpec]:
        yield FORMAT
        yield FormatSpec("yours", "another", suffix=".yours", writer="no.such:A", reader="no.such:B")

    assert everything(isolated_plugins(plugin(formats=announce))) == {"format": ["mine", "yours"]}


def failing() -> Iterator[FormatSpec]:
    yield FORMAT
    raise RuntimeError("the driver is missing")


@pytest.mark.parametrize(
    ("hooks", "error", "message"),
    [
        ({"samplers": lambda: [SAMPLER], "formats": failing}, RuntimeError, "driver"),
        ({"formats": lambda: [FORMAT], "samplers": lambda: [FORMAT]}, PluginError, "must be a SamplerSpec"),
        ({"formats": lambda: [FORMAT], "samplers": lambda: 5}, TypeError, "int"),
        ({"formats": lambda: [FORMAT], "colours": lambda: ["red"]}, Exception, "tokpack_register_colours"),
        ({"formats": lambda: [FORMAT, FORMAT]}, PluginError, "announced by both"),
    ],
    ids=["raises", "wrong record", "no records", "misspelt hook", "one name twice"],
)
def test_all_or_nothing(hooks: dict[str, Any], error: type[Exception], message: str) -> None:
    plugins = isolated_plugins(plugin(tokenizers=lambda: [TokenizerSpec("here", "first", open="m:open")]))
    with pytest.raises(error, match=message):
        plugins.add(plugin(**hooks), Provider("faulty"))
    assert everything(plugins) == {"tokenizer": ["here"]}
    assert not plugins.manager.has_plugin("faulty")
    # Repaired, it can be added under the same name.
    plugins.add(plugin(formats=lambda: [FORMAT]), Provider("faulty"))
    assert everything(plugins) == {"tokenizer": ["here"], "format": ["mine"]}


def test_a_clash_names_both_and_keeps_the_first() -> None:
    plugins = Plugins()
    plugins.add(plugin(formats=lambda: [FORMAT]), Provider("first", "tokpack-first", "1.0"))
    with pytest.raises(
        PluginError,
        match=r"both first \(tokpack-first 1\.0\) and second \(tokpack-second 2\.0\).*TOKPACK_DISABLE",
    ):
        plugins.add(
            plugin(formats=lambda: [FORMAT], samplers=lambda: [SAMPLER]),
            Provider("second", "tokpack-second", "2.0"),
        )
    assert everything(plugins) == {"format": ["mine"]}
    assert plugins.formats.provider("mine").plugin == "first"


def test_two_distributions_with_one_entry_point_name() -> None:
    plugins = Plugins()
    plugins.add(plugin(formats=lambda: [FORMAT]), Provider("mine", "tokpack-mine", "1"))
    with pytest.raises(PluginError, match=r"mine \(tokpack-other 2\) has the entry point name of another"):
        plugins.add(plugin(samplers=lambda: [SAMPLER]), Provider("mine", "tokpack-other", "2"))
    assert everything(plugins) == {"format": ["mine"]}


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (None, "add TOKPACK_HOOK_VERSION = 1"),
        (HOOK_VERSION + 1, "upgrade tokpack$"),
        (HOOK_VERSION - 1, "upgrade tokpack-mine$"),
    ],
)
def test_hook_versions(version: int | None, message: str) -> None:
    plugins = Plugins()
    with pytest.raises(PluginError, match=message):
        plugins.add(plugin(version=version, formats=lambda: [FORMAT]), Provider("mine", "tokpack-mine", "3"))
    assert everything(plugins) == {}


def test_unknown_names_say_what_to_do() -> None:
    formats = isolated_plugins(plugin(formats=lambda: [FORMAT])).formats
    for name, message in {
        "parquet": r"unknown format 'parquet'; installed: mine\. Try: pip install tokpack-parquet",
        "mien": r"unknown format 'mien'; installed: mine\. Did you mean 'mine'\?",
        "zzz": r"unknown format 'zzz'; installed: mine\. `tokpack plugins` shows them all",
    }.items():
        with pytest.raises(UnknownPluginError, match=f"^{message}$") as caught:
            formats[name]
        assert isinstance(caught.value, UsageError)
        assert caught.value.exit_code == 2
    with pytest.raises(UnknownPluginError, match="installed: none"):
        Plugins().trackers["mine"]


def test_what_is_known_elsewhere_is_no_built_in() -> None:
    installed = discover()
    for registry in installed.registries:
        for name, distribution in KNOWN_ELSEWHERE.get(registry.kind, {}).items():
            assert registry.get(name) is None or registry.provider(name).distribution == distribution, name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SamplerSpec("a", "x", open="m:o"), "two or more"),
        (lambda: SamplerSpec("Mine", "x", open="m:o"), "lower-case"),
        (lambda: SamplerSpec("my_sampler", "x", open="m:o"), "dashes"),
        (lambda: SamplerSpec("mine", "", open="m:o"), "summary"),
        (lambda: SamplerSpec("mine", "a\nb", open="m:o"), "summary"),
        (lambda: SamplerSpec("mine", "x", open="module.attribute"), "package.module:attribute"),
        (lambda: FormatSpec("mine", "x", suffix=".m", writer="m:W", reader="m"), "reader is 'm'"),
    ],
)
def test_records_are_checked_when_made(make: Callable[[], Spec], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        make()


@pytest.mark.parametrize("target", ["no_such_module_x:open", "tokpack.specs:no_such_attribute"])
def test_targets_that_lead_nowhere(target: str) -> None:
    with pytest.raises(PluginError, match=f"cannot load '{target}'.*reinstall"):
        load(target)


# discovery: distributions made of two files on sys.path, as an installer would leave them

GOOD = """
from tokpack.hookspecs import hookimpl
from tokpack.specs import FormatSpec
TOKPACK_HOOK_VERSION = 1

@hookimpl
def tokpack_register_formats():
    yield FormatSpec("{name}", "a format", suffix=".x", writer="m:W", reader="m:R")
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install distributions for one test; `discover` forgets what it knew before and after."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("TOKPACK_DISABLE", raising=False)
    monkeypatch.delenv("TOKPACK_STRICT", raising=False)

    def install(name: str, source: str, *, version: str = "1.0") -> None:
        module = f"plugin_{name}"
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"tokpack_{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tokpack-{name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[tokpack]\n{name} = {module}\n")
        host.discover.cache_clear()

    yield install
    host.discover.cache_clear()
    for name in [name for name in sys.modules if name.startswith("plugin_")]:
        del sys.modules[name]


def test_an_installed_distribution_is_discovered(install: Callable[..., None]) -> None:
    install("fresh", GOOD.format(name="fresh"), version="2.5")
    assert str(discover().formats.provider("fresh")) == "fresh (tokpack-fresh 2.5)"
    assert discover().formats.provider("bin").plugin == "builtin"
    assert discover() is discover()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_driver", "no_such_driver"),
        ("1 +", "invalid syntax"),
        ("raise SystemError('boom')", "boom"),
        (GOOD.format(name="late").replace("= 1", "= 2"), "hook version 2"),
        (GOOD.format(name="bin"), "announced by both builtin"),
        (GOOD.format(name="Bad Name"), "lower-case"),
    ],
)
def test_a_broken_plugin_is_kept_aside(install: Callable[..., None], source: str, message: str) -> None:
    install("broken", source)
    install("healthy", GOOD.format(name="healthy"))
    plugins = discover()
    [(provider, error)] = [(p, e) for p, e in plugins.broken.items() if p.plugin == "broken"]
    assert str(provider) == "broken (tokpack-broken 1.0)"
    assert message in str(error)
    assert {"healthy", "bin", "npy"} <= set(plugins.formats)


def test_strict(install: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    install("broken", "import no_such_driver")
    monkeypatch.setenv("TOKPACK_STRICT", "1")
    with pytest.raises(ImportError, match="no_such_driver"):
        discover()


def test_disable(install: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    install("broken", "import no_such_driver")
    install("healthy", GOOD.format(name="healthy"))
    monkeypatch.setenv("TOKPACK_DISABLE", "broken, healthy")
    plugins = discover()
    assert "healthy" not in plugins.formats
    assert not [provider for provider in plugins.broken if provider.plugin == "broken"]


def test_isolated_plugins_never_look_at_the_machine(install: Callable[..., None]) -> None:
    install("fresh", GOOD.format(name="fresh"))
    assert everything(isolated_plugins()) == {}


def test_two_objects_of_one_class_can_be_isolated_together() -> None:
    plugins = isolated_plugins(plugin(formats=lambda: [FORMAT]), plugin(samplers=lambda: [SAMPLER]))
    assert everything(plugins) == {"format": ["mine"], "sampler": ["mine"]}


def test_discovery_imports_nothing_heavy() -> None:
    """Over all that is installed here, tokpack's own plugins among it."""
    code = "import sys; from tokpack.plugins import discover; discover(); print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy = {
        "numpy",
        "torch",
        "pyarrow",
        "typer",
        "rich",
        "tiktoken",
        "tokenizers",
        "sentencepiece",
        "msgspec",
    }
    assert heavy.isdisjoint(shown.split())


def test_a_registry_is_a_mapping_sorted_by_name() -> None:
    registry = Registry("sampler", SamplerSpec)
    for name in ("two", "one"):
        registry.add(SamplerSpec(name, "x", open="m:o"), Provider("p"))
    assert list(registry) == ["one", "two"]
    assert len(registry) == 2
    assert dict(registry).keys() == {"one", "two"}
    registry.discard("p")
    assert dict(registry) == {}
