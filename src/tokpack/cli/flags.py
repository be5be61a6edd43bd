"""Flags that several commands have in common, each with its help."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from tokpack.protocols import OnError, TextSplit

__all__ = ["DATA", "InputFormat", "OnErrorPolicy", "Separator", "TextField", "TextSplitRule"]

DATA = "What to read"

InputFormat: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Read all inputs as this source: text, jsonl, … Default: by file name.", rich_help_panel=DATA
    ),
]
TextField: TypeAlias = Annotated[
    str, typer.Option(help="Field or column that holds the text; dotted if nested.", rich_help_panel=DATA)
]
TextSplitRule: TypeAlias = Annotated[
    TextSplit,
    typer.Option(
        help="How a text file becomes documents. auto: split where `<|endoftext|>` stands on a line of its "
        "own, else the file is one document.",
        rich_help_panel=DATA,
    ),
]
Separator: TypeAlias = Annotated[
    str, typer.Option(help="What stands between documents of a text file.", rich_help_panel=DATA)
]
OnErrorPolicy: TypeAlias = Annotated[
    OnError,
    typer.Option(
        help="Broken documents (invalid UTF-8, bad JSON, …): stop, leave them out, or repair what can be "
        "repaired. All are counted; encode lists them in quarantine.jsonl.",
        rich_help_panel=DATA,
    ),
]
