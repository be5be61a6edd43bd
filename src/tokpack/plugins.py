"""Finding plugins, and looking up what they announce.

Registration of a plugin is all or nothing; a plugin that fails is kept aside with its error and never breaks
another command; two plugins that claim one name are an error that names both.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import pluggy

from tokpack import hookspecs
from tokpack.errors import PluginError, UnknownPluginError
from tokpack.specs import (
    CommandSpec,
    ExecutorSpec,
    FormatSpec,
    SamplerSpec,
    SourceSpec,
    TokenizerSpec,
    TrackerSpec,
)

__all__ = ["ENTRY_POINT_GROUP", "Plugins", "Provider", "Registry", "discover"]

ENTRY_POINT_GROUP = "tokpack"

#: Which distribution provides what, for names that are asked for and not installed.
KNOWN_ELSEWHERE: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "tokenizer": {
            "bpe": "tokpack-bpe",
            "hf": "tokpack-hf",
            "sentencepiece": "tokpack-sentencepiece",
            "tiktoken": "tokpack-tiktoken",
        },
        "format": {
            "arrow": "tokpack-arrow",
            "llmc": "tokpack-megatron",
            "megatron": "tokpack-megatron",
            "parquet": "tokpack-parquet",
        },
        "source": {
            "arrow": "tokpack-arrow",
            "hf-datasets": "tokpack-arrow",
            "parquet": "tokpack-parquet",
        },
        "executor": {"ray": "tokpack-ray"},
    }
)

S = TypeVar("S", TokenizerSpec, FormatSpec, SourceSpec, SamplerSpec, ExecutorSpec, TrackerSpec, CommandSpec)


@dataclass(frozen=True, slots=True)
class Provider:
    """Who announced something: plugin name, distribution and version."""

    plugin: str
    distribution: str = "?"
    version: str = "?"

    def __str__(self) -> str:
        return f"{self.plugin} ({self.distribution} {self.version})"


class Registry(Mapping[str, S], Generic[S]):
    """What is installed of one kind, by name."""

    def __init__(self, kind: str, spec_type: type[S]) -> None:
        self.kind = kind
        self.spec_type: type[S] = spec_type
        self._specs: dict[str, S] = {}
        self._providers: dict[str, Provider] = {}

    def __getitem__(self, name: str) -> S:
        try:
            return self._specs[name]
        except KeyError:
            raise UnknownPluginError(self._unknown(name)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._specs))

    def __len__(self) -> int:
        return len(self._specs)

    def provider(self, name: str) -> Provider:
        """Return who announced ``name``."""
        return self._providers[name]

    def add(self, spec: S, provider: Provider) -> None:
        """Register ``spec``. Raises PluginError when its name is taken or it is of another kind."""
        if not isinstance(spec, self.spec_type):
            raise PluginError(
                f"plugin {provider} announced {spec!r} as a {self.kind}; "
                f"it must be a {self.spec_type.__name__}"
            )
        if (owner := self._providers.get(spec.name)) is not None:
            raise PluginError(
                f"{self.kind} {spec.name!r} is announced by both {owner} and {provider}; "
                "uninstall one of them, or name one in TOKPACK_DISABLE"
            )
        self._specs[spec.name] = spec
        self._providers[spec.name] = provider

    def discard(self, plugin: str) -> None:
        """Forget everything that ``plugin`` announced."""
        for name in [name for name, owner in self._providers.items() if owner.plugin == plugin]:
            del self._specs[name], self._providers[name]

    def _unknown(self, name: str) -> str:
        message = f"unknown {self.kind} {name!r}; installed: {', '.join(self) or 'none'}"
        if (distribution := KNOWN_ELSEWHERE.get(self.kind, {}).get(name)) is not None:
            return f"{message}. Try: pip install {distribution}"
        if close := difflib.get_close_matches(name, self._specs, n=1):
            return f"{message}. Did you mean {close[0]!r}?"
        return f"{message}. `tokpack plugins` shows them all"


class Plugins:
    """The plugins in use. An ordinary object: tests make their own, the command line uses `discover()`."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager("tokpack")
        self.manager.add_hookspecs(hookspecs)
        self.tokenizers = Registry("tokenizer", TokenizerSpec)
        self.formats = Registry("format", FormatSpec)
        self.sources = Registry("source", SourceSpec)
        self.samplers = Registry("sampler", SamplerSpec)
        self.executors = Registry("executor", ExecutorSpec)
        self.trackers = Registry("tracker", TrackerSpec)
        self.commands = Registry("command", CommandSpec)
        #: Plugins that could not be used, with the reason.
        self.broken: dict[Provider, Exception] = {}

    @property
    def registries(self) -> tuple[Registry[Any], ...]:
        """All registries, in the order in which `tokpack plugins` shows them."""
        return (
            self.tokenizers,
            self.formats,
            self.sources,
            self.samplers,
            self.executors,
            self.trackers,
            self.commands,
        )

    def add(self, plugin: object, provider: Provider | str) -> None:
        """Register one plugin and all it announces: everything, or nothing.

        Raises:
            PluginError: made for another hook version, a hook nobody knows, or a name already taken.
        """
        if isinstance(provider, str):
            provider = Provider(provider)
        _check_version(plugin, provider)
        if self.manager.has_plugin(provider.plugin):
            raise PluginError(
                f"{provider} has the entry point name of another plugin; uninstall one of the two"
            )
        self.manager.register(plugin, provider.plugin)
        try:
            self.manager.check_pending()
            for registry in self.registries:
                for spec in self._announced(plugin, registry.kind):
                    registry.add(spec, provider)
        except Exception:
            self._remove(provider.plugin)
            raise

    def _announced(self, plugin: object, kind: str) -> Iterator[Any]:
        hook = getattr(self.manager.hook, f"tokpack_register_{kind}s")
        others = [other for other in self.manager.get_plugins() if other is not plugin]
        for announced in self.manager.subset_hook_caller(hook.name, others)():
            yield from announced

    def _remove(self, name: str) -> None:
        self.manager.unregister(name=name)
        for registry in self.registries:
            registry.discard(name)


def _check_version(plugin: object, provider: Provider) -> None:
    version = getattr(plugin, "TOKPACK_HOOK_VERSION", None)
    if version is None:
        raise PluginError(
            f"plugin {provider} does not say for which hooks it was made; "
            f"add TOKPACK_HOOK_VERSION = {hookspecs.HOOK_VERSION} to its hook module"
        )
    if version != hookspecs.HOOK_VERSION:
        side = "tokpack" if version > hookspecs.HOOK_VERSION else provider.distribution
        raise PluginError(
            f"plugin {provider} was made for hook version {version}, this tokpack has "
            f"{hookspecs.HOOK_VERSION}; upgrade {side}"
        )


def _provider(entry: EntryPoint) -> Provider:
    if entry.dist is None:
        return Provider(entry.name)
    return Provider(entry.name, entry.dist.name, entry.dist.version)


@cache
def discover() -> Plugins:
    """Return every installed plugin, tokpack's own built-ins included.

    Environment: ``TOKPACK_DISABLE`` names plugins to leave out, separated by commas; with ``TOKPACK_STRICT``
    set, a broken plugin is an error at once.
    """
    plugins = Plugins()
    disabled = {name.strip() for name in os.environ.get("TOKPACK_DISABLE", "").split(",")}
    # Built-ins first: on a clash the newcomer is the one reported as broken.
    entries = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: (e.name != "builtin", e.name))
    for entry in entries:
        if entry.name in disabled:
            continue
        provider = _provider(entry)
        try:
            plugins.add(entry.load(), provider)
        # A plugin is foreign code: whatever it raises must not take the command down.
        except Exception as error:
            if os.environ.get("TOKPACK_STRICT"):
                raise
            plugins.broken[provider] = error
    return plugins
