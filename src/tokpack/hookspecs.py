"""Every hook that tokpack calls, on one screen.

A plugin is a module behind the entry point group ``tokpack``. It states the hook version it was written for
and implements any of these hooks; each returns or yields records from :mod:`tokpack.specs`::

    from tokpack import hookimpl
    from tokpack.specs import FormatSpec

    TOKPACK_HOOK_VERSION = 1

    @hookimpl
    def tokpack_register_formats():
        yield FormatSpec("parquet", "one row per document", suffix=".parquet",
                         writer="tokpack_parquet.format:ParquetWriter",
                         reader="tokpack_parquet.format:ParquetReader")
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from tokpack.specs import (
    CommandSpec,
    ExecutorSpec,
    FormatSpec,
    SamplerSpec,
    SourceSpec,
    TokenizerSpec,
    TrackerSpec,
)

#: Raised when a hook or a contract in :mod:`tokpack.protocols` changes in a way that breaks plugins.
HOOK_VERSION = 1

hookspec = pluggy.HookspecMarker("tokpack")
hookimpl = pluggy.HookimplMarker("tokpack")


@hookspec
def tokpack_register_tokenizers() -> Iterable[TokenizerSpec]:
    """Announce tokenizer backends."""
    return ()


@hookspec
def tokpack_register_formats() -> Iterable[FormatSpec]:
    """Announce storage formats."""
    return ()


@hookspec
def tokpack_register_sources() -> Iterable[SourceSpec]:
    """Announce kinds of input."""
    return ()


@hookspec
def tokpack_register_samplers() -> Iterable[SamplerSpec]:
    """Announce rules that cut rows for training."""
    return ()


@hookspec
def tokpack_register_executors() -> Iterable[ExecutorSpec]:
    """Announce ways to run units of work."""
    return ()


@hookspec
def tokpack_register_trackers() -> Iterable[TrackerSpec]:
    """Announce places where training metrics go."""
    return ()


@hookspec
def tokpack_register_commands() -> Iterable[CommandSpec]:
    """Announce subcommands of the command line."""
    return ()
