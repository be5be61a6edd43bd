"""Letting another plugin's native engine encode for a reference library, once it has proved itself.

A backend describes its tokenizer as a `TiktokenModel` or `TokenizerJson` and asks here. No plugin imports
another: engines are found by `TokenizerSpec.accelerate` among the installed plugins.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from tokpack.errors import MismatchError, PluginError, UnsupportedError, UsageError
from tokpack.plugins import discover
from tokpack.protocols import Engine, NativeEngine, TiktokenModel, Tokenizer, TokenizerJson
from tokpack.specs import TokenizerSpec, load
from tokpack.tokenizers.answers import has_proved_itself

__all__ = ["native_engine"]

_log = logging.getLogger(__name__)


def native_engine(
    model: TiktokenModel | TokenizerJson, *, reference: Tokenizer, engine: Engine
) -> NativeEngine | None:
    """Return an installed engine that gives the ids of ``reference``, or None if the reference is to encode.

    ``auto`` takes an engine that supports ``model`` and has proved equal ids on the probe set, in silence
    when there is none; ``native`` insists on one.

    Raises:
        UsageError: ``engine`` is ``native`` and no installed engine supports ``model``; gives the reasons.
        MismatchError: ``engine`` is ``native`` and the engine's ids are not the reference's.
        PluginError: ``engine`` is ``native`` and the engine cannot be imported.
    """
    if engine == "reference":
        return None
    reasons = []
    for backend, target in _accelerators(discover().tokenizers).items():
        try:
            candidate: NativeEngine = load(target)(model)
            _prove(candidate, reference)
        except UnsupportedError as error:
            reasons.append(f"{backend}: {error}")
        except (MismatchError, PluginError) as error:
            if engine == "native":
                raise
            _log.warning("%s; %s encodes instead", error, reference.engine)
        else:
            return candidate
    if engine == "native":
        why = "; ".join(reasons) or "none is installed; try: pip install tokpack-bpe"
        raise UsageError(f"no native engine for this tokenizer ({why}); use --engine reference")
    return None


def _accelerators(specs: Mapping[str, TokenizerSpec]) -> dict[str, str]:
    return {name: spec.accelerate for name, spec in specs.items() if spec.accelerate is not None}


def _prove(engine: NativeEngine, reference: Tokenizer) -> None:
    if not has_proved_itself(engine, reference):
        raise MismatchError(
            f"{engine.name} does not give the ids of {reference.engine} on the probe set; "
            "use --engine reference and report the tokenizer"
        )
