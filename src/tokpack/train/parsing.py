"""Settings from plain values and back: checked, with "did you mean", and as TOML."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_type_hints

import msgspec

from tokpack.errors import UsageError
from tokpack.train.config import Settings

__all__ = ["dump_toml", "read_toml", "settings_from"]


def settings_from(values: Mapping[str, Any], *, origin: str = "the configuration") -> Settings:
    """Build settings from nested mappings.

    Raises:
        UsageError: a key that does not exist, or a value of the wrong type.
    """
    known = get_type_hints(Settings)
    sections: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise UsageError(_unknown(key, _all_keys(), origin))
        if key == "preset":
            sections[key] = _convert(value, str, key, origin)
        elif isinstance(value, Mapping):
            sections[key] = _section(known[key], key, value, origin)
        else:
            raise UsageError(f"{key!r} in {origin} is a section; write [{key}] and its keys below it")
    return Settings(**sections)


def _section(kind: type[Any], section: str, values: Mapping[str, Any], origin: str) -> Any:
    hints = get_type_hints(kind)
    for key in values:
        if key not in hints:
            raise UsageError(_unknown(f"{section}.{key}", _all_keys(), origin))
    return kind(
        **{key: _convert(value, hints[key], f"{section}.{key}", origin) for key, value in values.items()}
    )


def _convert(value: Any, kind: Any, name: str, origin: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        wanted = (
            f"one of {', '.join(map(repr, kind.__args__))}"
            if getattr(kind, "__origin__", None) is Literal
            else str(getattr(kind, "__name__", kind))
        )
        raise UsageError(f"{name} in {origin} is {value!r}; it must be {wanted}") from error


def _all_keys() -> list[str]:
    keys = ["preset"]
    for section, kind in get_type_hints(Settings).items():
        if dataclasses.is_dataclass(kind):
            keys += [f"{section}.{item.name}" for item in dataclasses.fields(kind)]
    return keys


#: What other trainers call these settings.
_ELSEWHERE = {
    "learning_rate": "optim.lr",
    "max_lr": "optim.lr",
    "grad_clip": "optim.clip",
    "max_steps": "train.max_iters",
    "block_size": "data.seq_len",
    "context_length": "data.seq_len",
    "n_layer": "model.num_layers",
    "n_head": "model.num_heads",
    "n_embd": "model.hidden_size",
    "eval_interval": "eval.every",
    "log_interval": "log.every",
    "warmup_iters": "schedule.warmup",
    "warmup_steps": "schedule.warmup",
}


def _unknown(name: str, known: list[str], origin: str) -> str:
    if (ours := _ELSEWHERE.get(name.rpartition(".")[2])) is not None:
        return f"unknown setting {name!r} in {origin}; did you mean {ours!r}?"
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not close:  # the right key in the wrong section
        last = name.rpartition(".")[2]
        close = [key for key in known if key.rpartition(".")[2] == last]
    hint = f"did you mean {close[0]!r}?" if close else f"sections: {', '.join(get_type_hints(Settings))}"
    return f"unknown setting {name!r} in {origin}; {hint}"


def read_toml(path: Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        UsageError: it is missing, unreadable or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}") from error


def dump_toml(settings: Settings) -> str:
    """Write settings as TOML; `settings_from(tomllib.loads(dump_toml(s))) == s`."""
    values = settings.to_dict()
    lines = [f"preset = {_toml(values.pop('preset'))}"]
    for section, content in values.items():
        lines += ["", f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in content.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    # JSON's strings are TOML's, but for this one control character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
