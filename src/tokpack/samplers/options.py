"""Reading a sampler's options, whether they come from Python or from the command line as words."""

from __future__ import annotations

from collections.abc import Mapping

from tokpack.errors import UsageError

__all__ = ["Option", "read_choice", "read_flag", "read_integer"]

Option = str | int | float | bool


def read_choice(options: Mapping[str, Option], name: str, choices: tuple[str, ...]) -> str:
    """Return the option ``name``, one of ``choices``; the first of them is the default."""
    value = options.get(name, choices[0])
    if value not in choices:
        raise UsageError(f"{name} is {value!r}; choose one of: {', '.join(choices)}")
    return str(value)


def read_integer(options: Mapping[str, Option], name: str, default: int, *, least: int = 1) -> int:
    """Return the option ``name`` as an integer that is at least ``least``."""
    value = number = options.get(name, default)
    if isinstance(value, str):
        number = int(value) if value.isdecimal() else value
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise UsageError(f"{name} is {value!r}; give a whole number of at least {least}")
    return number


def read_flag(options: Mapping[str, Option], name: str, default: bool) -> bool:
    """Return the option ``name`` as a truth value: true or false."""
    value = options.get(name, default)
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word not in ("true", "false"):
        raise UsageError(f"{name} is {value!r}; write true or false")
    return word == "true"
