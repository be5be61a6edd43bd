"""`tokpack plugins`: what is installed, who provides it, and what is broken."""

from __future__ import annotations

import traceback
from typing import Annotated, Any

import typer

from tokpack.cli.console import print_json, print_table, table
from tokpack.plugins import Plugins, discover

__all__ = ["plugins"]


def plugins(
    kind: Annotated[
        str | None, typer.Argument(help="Only one kind: tokenizer, format, source, sampler, executor, …")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the full traceback of broken plugins.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List every tokenizer, format, source, sampler, executor, tracker and command that is installed.

    A plugin is a distribution of its own: installing it is all. `pip install tokpack-parquet` adds the
    format `parquet`; `TOKPACK_DISABLE=parquet` leaves it out.
    """
    found = discover()
    rows = [row for row in _rows(found) if kind in (None, row["kind"])]
    if as_json:
        print_json(rows)
    else:
        _print(rows)
    if verbose:
        for provider, error in found.broken.items():
            typer.echo(f"\n{provider}\n{''.join(traceback.format_exception(error))}")
    elif found.broken and not as_json:
        typer.echo("\n`tokpack plugins -v` shows the tracebacks of what is broken")


def _rows(found: Plugins) -> list[dict[str, Any]]:
    rows = []
    for registry in found.registries:
        for name, spec in registry.items():
            provider = registry.provider(name)
            rows.append(
                {
                    "kind": registry.kind,
                    "name": name,
                    "provider": provider.distribution,
                    "version": provider.version,
                    "summary": spec.summary,
                    "state": "ready",
                }
            )
    for provider, error in found.broken.items():
        rows.append(
            {
                "kind": "plugin",
                "name": provider.plugin,
                "provider": provider.distribution,
                "version": provider.version,
                "summary": f"{type(error).__name__}: {error}".splitlines()[0],
                "state": "broken",
            }
        )
    return rows


def _print(rows: list[dict[str, Any]]) -> None:
    columns = ("kind", "name", "provider", "version", "state", "summary")
    print_table(table("", columns, [[row[column] for column in columns] for row in rows]))
