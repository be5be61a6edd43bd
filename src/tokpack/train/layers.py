"""Settings from several places, laid over each other. Imports no torch, so that mistakes show at once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokpack.errors import UsageError
from tokpack.train.config import Settings
from tokpack.train.parsing import settings_from
from tokpack.train.presets import preset_values

__all__ = ["expand", "layered", "merge", "nest", "parse_assignment", "without_factory"]


def layered(layers: Iterable[Mapping[str, Any]], *, origin: str = "the settings") -> Settings:
    """Merge layers of settings, the later winning, over the preset that they name.

    Without a preset and a model of their own the device decides: `tiny` for a CPU, `small` for CUDA.

    Raises:
        UsageError: a setting or preset that does not exist, or a value of the wrong kind.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        values = merge(_without_mixture(values) if _names_data(layer) else values, layer)
    settings_from(values, origin=origin)  # mistakes first, in the user's own words
    preset = str(values.get("preset", ""))
    if not preset and "model" not in values:
        device = str(values.get("train", {}).get("device", "auto"))
        preset = "small" if device.startswith("cuda") or (device == "auto" and _has_cuda()) else "tiny"
    return settings_from(merge(preset_values(preset) if preset else {}, values), origin=origin)


def _names_data(layer: Mapping[str, Any]) -> bool:
    data = layer.get("data")
    return isinstance(data, Mapping) and not data.keys().isdisjoint(("dataset", "mixture"))


def _without_mixture(values: Mapping[str, Any]) -> dict[str, Any]:
    """Data named later stands in the place of data named before: nobody means to add to a mixture."""
    data = {key: value for key, value in dict(values.get("data", {})).items() if key != "mixture"}
    return {**values, "data": data}


def without_factory(values: Mapping[str, Any], allowed: str, *, where: Path) -> Mapping[str, Any]:
    """Return saved settings; code that they name is only used where the user names it again.

    Raises:
        UsageError: they name other code than ``allowed``.
    """
    named = dict(values.get("model", {})).get("factory", "")
    if named and named != allowed:
        raise UsageError(
            f"{where} was trained with the model of {named!r}; if you trust that code, name it again: "
            f"--set model.factory={named}"
        )
    return values


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested mappings over each other, the later winning."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            below = result.get(key)
            nested = isinstance(value, Mapping)
            result[key] = merge(below if isinstance(below, Mapping) else {}, value) if nested else value
    return result


def parse_assignment(text: str) -> dict[str, Any]:
    """Turn ``optim.lr=3e-4`` into ``{"optim": {"lr": 0.0003}}``; the value is TOML, or else a string.

    Raises:
        UsageError: there is no ``=`` or no name before it.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"{text!r} is no setting; write SECTION.KEY=VALUE, such as optim.lr=3e-4")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    return nest(name.strip(), parsed)


def nest(name: str, value: Any) -> dict[str, Any]:
    """Turn a dotted name and a value into nested mappings."""
    result: Any = value
    for part in reversed(name.split(".")):
        result = {part: result}
    return dict(result)


def expand(assignments: Iterable[str]) -> dict[str, Any]:
    """Merge several ``SECTION.KEY=VALUE`` texts in order."""
    return merge(*map(parse_assignment, assignments))
