"""Rules that cut rows, opened by name.

A sampler is a pure function from row numbers to rows (`tokpack.protocols.Sampler`). The modules here are
reached through the registry like any plugin's.
"""

from __future__ import annotations

from dataclasses import replace

from tokpack.batches import Batch
from tokpack.errors import UsageError
from tokpack.plugins import Plugins, discover
from tokpack.protocols import Sampler, SamplerOptions, TokenStore
from tokpack.samplers.epochs import epochs_at
from tokpack.specs import load

__all__ = ["empty_batch", "epochs_at", "open_sampler"]


def empty_batch(sampler: Sampler, rows: int) -> Batch:
    """Return an uninitialised batch with everything that ``sampler`` fills."""
    return Batch.empty(
        rows, sampler.seq_len, sampler.dtype, segmented=sampler.segmented, masked=sampler.masked
    )


def open_sampler(
    name: str, store: TokenStore, options: SamplerOptions, *, plugins: Plugins | None = None
) -> Sampler:
    """Open the sampler ``name`` over one split.

    Option names may be written with dashes.

    Raises:
        UnknownPluginError: no such sampler is installed.
        UsageError: an option it does not have or cannot mean, or the split is shorter than one row.
    """
    spec = (plugins or discover()).samplers[name]
    if options.seq_len < 1:
        raise UsageError(f"seq_len is {options.seq_len}; it must be at least 1")
    given = {key.replace("-", "_"): value for key, value in options.options.items()}
    if unknown := sorted(given.keys() - set(spec.options)):
        raise UsageError(
            f"sampler {name!r} has no option {unknown[0]!r}; it has: {', '.join(spec.options) or 'none'}"
        )
    sampler: Sampler = load(spec.open)(store, replace(options, options=given))
    return sampler
