"""What an encode needs, opened and decided before any unit runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tokpack import __version__
from tokpack.dtypes import parse_dtype, token_dtype
from tokpack.encoding.inputs import find_inputs
from tokpack.encoding.options import EncodeOptions
from tokpack.encoding.plan import Plan, make_plan
from tokpack.encoding.unit import UnitWork
from tokpack.errors import UsageError
from tokpack.plugins import Plugins
from tokpack.protocols import Source, Tokenizer, TokenizerOptions
from tokpack.specs import FormatSpec, load
from tokpack.tokenizers.opening import open_tokenizer
from tokpack.tokenizers.probe import TokenizerIdentity, identify

__all__ = ["Job", "prepare"]


@dataclass(frozen=True, slots=True)
class Job:
    """Everything opened and decided, before any unit runs."""

    options: EncodeOptions
    plan: Plan
    tokenizer: Tokenizer
    identity: TokenizerIdentity
    format: FormatSpec
    sources: Mapping[str, Source]
    dtype: np.dtype[Any]
    bos_id: int | None
    eos_id: int | None

    def record(self) -> dict[str, Any]:
        """Return what must be equal for unfinished work to be continued."""
        return {
            "tokpack": __version__,
            "tokenizer": {"reference": self.options.tokenizer, "fingerprint": self.identity.fingerprint},
            "options": msgspec.to_builtins(self.options),
            "dtype": self.dtype.name,
            "inputs": {
                f"{item.split}:{item.name}": {"size": item.size_bytes, "kind": item.kind}
                for item in self.plan.inputs
            },
        }

    def work(self, folder: Path) -> UnitWork:
        """Return what a worker calls with each unit."""
        return UnitWork(
            folder=folder,
            tokenizer=self.tokenizer,
            sources=self.sources,
            names=tuple(item.name for item in self.plan.inputs),
            options=self.options,
            dtype=self.dtype,
            bos_id=self.bos_id,
            eos_id=self.eos_id,
        )


def prepare(
    inputs: Sequence[str],
    options: EncodeOptions,
    *,
    validation: Sequence[str] = (),
    splits: Mapping[str, Sequence[str]] | None = None,
    plugins: Plugins,
) -> Job:
    """Open the tokenizer and the sources, and plan the units. Touches no output.

    Raises:
        TokpackError: whatever is wrong with the request, before any work is done.
    """
    spec = plugins.formats[options.format]
    _check_format_options(spec, options.format_options)
    tokenizer = open_tokenizer(
        options.tokenizer, options=TokenizerOptions(engine=options.engine), plugins=plugins
    )
    files = find_inputs(
        inputs,
        validation=validation,
        splits=splits,
        input_format=options.input_format,
        sources=plugins.sources,
    )
    if not any(item.size_bytes for item in files):
        raise UsageError(f"the input is empty: {', '.join(item.path for item in files[:3])}")
    sources = {kind: load(plugins.sources[kind].open)(options.source) for kind in {f.kind for f in files}}
    bos_id = _boundary(options.bos or False, tokenizer.bos_id, "BOS", "--no-bos")
    eos = options.eos if options.eos is not None else tokenizer.eos_id is not None
    eos_id = _boundary(eos, tokenizer.eos_id, "EOS", "--no-eos")
    dtype = (
        parse_dtype(options.dtype, tokenizer.vocab_size)
        if options.dtype
        else token_dtype(tokenizer.vocab_size)
    )
    return Job(
        options=replace(options, bos=bos_id is not None, eos=eos_id is not None),
        plan=make_plan(files, sources, options),
        tokenizer=tokenizer,
        identity=identify(tokenizer),
        format=spec,
        sources=sources,
        dtype=dtype,
        bos_id=bos_id,
        eos_id=eos_id,
    )


def _check_format_options(spec: FormatSpec, options: Mapping[str, str]) -> None:
    for name in options:
        if name not in spec.options:
            raise UsageError(
                f"format {spec.name!r} has no option {name!r}; it has: {', '.join(spec.options) or 'none'}"
            )


def _boundary(wanted: bool, token_id: int | None, name: str, remedy: str) -> int | None:
    if wanted and token_id is None:
        raise UsageError(f"the tokenizer has no {name} token; leave it out with {remedy}")
    return token_id if wanted else None
