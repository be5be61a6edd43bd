"""What all commands share when they talk to a person: numbers in words, tables, and when to draw."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from tokpack.dataset.manifest import Ledger
from tokpack.errors import UsageError

__all__ = [
    "cores",
    "format_bytes",
    "format_count",
    "format_seconds",
    "ledger_line",
    "parse_bytes",
    "parse_pairs",
    "print_json",
    "print_table",
    "stderr",
    "table",
]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stderr() -> Console:
    """Return the console for progress and notes; results alone go to standard output."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()
) -> Table:
    """Build a table; ``right`` names the columns of numbers."""
    drawn = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for index, name in enumerate(columns):
        drawn.add_column(name, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    return drawn


def print_table(drawn: Table) -> None:
    """Print a table on standard output, at the terminal's width or wide enough for a file."""
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(drawn)


def print_json(value: Any) -> None:
    """Print one JSON value on standard output."""
    typer.echo(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))


def format_bytes(size: float) -> str:
    """Return ``1.5 MB`` and the like; decimal units."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def format_count(number: int) -> str:
    """Return a count with thousands separated."""
    return f"{number:,}"


def format_seconds(seconds: float) -> str:
    """Return ``3.2 s``, ``4 min 05 s`` or ``2 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def parse_bytes(text: str | None) -> int | None:
    """Read ``64MB``, ``500M``, ``1GiB`` or a plain number of bytes.

    Raises:
        UsageError: not a size.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if match is None or (match[3] and not match[2]):
        raise UsageError(f"{text!r} is not a size; write 64MB, 1.5GB, 512MiB or a number of bytes")
    factor = _BINARY[match[2]] if match[3] else _UNITS[match[2]]
    return int(float(match[1]) * factor)


def ledger_line(ledger: Ledger) -> str:
    """Say where every document went."""
    parts = [f"{format_count(ledger.encoded)} encoded", f"{format_count(ledger.empty)} empty"]
    parts += [f"{format_count(number)} skipped ({reason})" for reason, number in ledger.skipped.items()]
    line = f"documents: {format_count(ledger.read)} read = {' + '.join(parts)}"
    notes = [f"{format_count(number)} repaired ({reason})" for reason, number in ledger.replaced.items()]
    notes += [f"{format_count(ledger.split)} split"] * bool(ledger.split)
    notes += [
        f"{format_count(ledger.truncated)} truncated, {format_count(ledger.tokens_cut)} tokens cut"
    ] * bool(ledger.truncated)
    return "; ".join([line, *notes])


def parse_pairs(values: Sequence[str], flag: str) -> dict[str, str]:
    """Return the NAME=VALUE pairs of a repeated flag. Raises UsageError."""
    pairs = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not (name and equals and rest):
            raise UsageError(f"{flag} is {value!r}; write NAME=VALUE")
        pairs[name] = rest
    return pairs
