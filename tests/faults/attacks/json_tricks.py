"""JSON that one reader understands in one way and the next in another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from attacks.case import Attack


def doubled(text: str, key: str) -> str:
    """A key twice: the last wins here, the first there."""
    return text.replace(f'"{key}"', f'"{key}": 0, "{key}"', 1)


def not_a_number(text: str, key: str) -> str:
    return _value(text, key, "NaN")


def endless(text: str, key: str) -> str:
    return _value(text, key, "1e999")


def negative(text: str, key: str) -> str:
    return _value(text, key, "-1")


def fraction(text: str, key: str) -> str:
    return _value(text, key, "1.5")


def beyond(text: str, key: str) -> str:
    return _value(text, key, str(2**64))


def truth(text: str, key: str) -> str:
    return _value(text, key, "true")


def nothing(text: str, key: str) -> str:
    return _value(text, key, "null")


def listed(text: str, key: str) -> str:
    return _value(text, key, "[1]")


def surrogate(text: str, key: str) -> str:
    return _value(text, key, '"\\ud800"')


def _value(text: str, key: str, value: str) -> str:
    head, found, rest = text.partition(f'"{key}": ')
    assert found, (key, text)
    ends = min(place for place in (rest.find(","), rest.find("\n"), rest.find("}")) if place >= 0)
    return head + found + value + rest[ends:]


def change(target: str, key: str, trick: Callable[[str, str], str], path: Path) -> None:
    before = (path / target).read_text()
    after = trick(before, key)
    assert after != before
    (path / target).write_text(after)


def takes_it(target: str, path: Path) -> bool:
    """Python's own reader takes all of these without a word."""
    found: Any = json.loads((path / target).read_text())
    return isinstance(found, dict)


_TRICKS = (doubled, not_a_number, endless, negative, fraction, beyond, truth, nothing, listed, surrogate)
_STEP = "checkpoints/step-00000001/"


def _attacks() -> Iterator[Attack]:
    for good, target, key in (
        ("bin", "manifest.json", "size_bytes"),
        ("bin", "manifest.json", "vocab_size"),
        ("checkpoint", f"{_STEP}checkpoint.json", "size_bytes"),
        ("checkpoint", f"{_STEP}checkpoint.json", "version"),
        ("checkpoint", "checkpoints/best.json", "step"),
    ):
        for trick in _TRICKS:
            # Of two equal keys a checkpoint's reader takes the last; `best` that names no step is no best.
            harmless = good == "checkpoint" and (
                trick is doubled or "best" in target or (key == "version" and trick is truth)
            )
            yield Attack(
                f"{good}, {target}: {key} {trick.__name__}",
                good,
                partial(change, target, key, trick),
                partial(takes_it, target),
                harmless,
            )


ATTACKS = list(_attacks())
