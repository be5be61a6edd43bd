"""`tokpack decode`: stored tokens as text that a person can read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tokpack.dataset.store import ShardStore, open_dataset
from tokpack.dtypes import TokenArray
from tokpack.errors import UsageError
from tokpack.protocols import Tokenizer

__all__ = ["decode"]


def decode(
    dataset: Annotated[Path, typer.Argument(help="Folder of the dataset.")] = Path("tokenized"),
    split: Annotated[str, typer.Option(help="Split to read.")] = "train",
    document: Annotated[int | None, typer.Option(help="Number of the document, from 0.")] = None,
    tokens: Annotated[
        str | None, typer.Option(metavar="START:STOP", help="A range of tokens of the split instead.")
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", help="Print the ids instead of text.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print the decoded bytes as they are, tokens not separated.")
    ] = False,
) -> None:
    """Show a document, or a range of tokens, with the tokens visibly separated.

    Needs the tokenizer's backend, but no network: its files lie in the dataset. Default: document 0.

    Examples: `tokpack decode tokenized --document 17`, `tokpack decode tokenized --tokens 0:200`
    """
    if document is not None and tokens is not None:
        raise UsageError("--document and --tokens exclude each other; give one of them")
    opened = open_dataset(dataset)
    store = opened[split]
    chosen = store.document(document or 0) if tokens is None else store.read(*_range(tokens, store))
    if ids:
        typer.echo(" ".join(map(str, chosen.tolist())))
        return
    tokenizer = opened.open_tokenizer()
    if raw:
        sys.stdout.buffer.write(tokenizer.decode_bytes(chosen))
        sys.stdout.buffer.flush()
        return
    typer.echo(separated(tokenizer, chosen))


def _range(text: str, store: ShardStore) -> tuple[int, int]:
    first, colon, last = text.partition(":")
    try:
        start, stop = int(first or 0), int(last) if last else len(store)
    except ValueError:
        colon = ""
        start = stop = 0
    if not colon:
        raise UsageError(f"--tokens is {text!r}; write START:STOP, such as 0:200")
    if not 0 <= start < stop <= len(store):
        raise UsageError(f"--tokens {text} is outside of {store.name}: it holds {len(store):,} tokens")
    return start, stop


def separated(tokenizer: Tokenizer, tokens: TokenArray) -> str:
    """Return the text with a bar between tokens; special tokens stand by their name.

    Bytes that are no character on their own (one character may take several tokens) are shown as ``<0xE2>``.
    """
    names = {token_id: name for name, token_id in tokenizer.special_tokens.items()}
    return "│".join(
        names[token] if token in names else _visible(tokenizer.decode_bytes([token]))
        for token in tokens.tolist()
    )


def _visible(piece: bytes) -> str:
    return "".join(
        f"<0x{ord(char) - 0xDC00:02X}>" if 0xDC80 <= ord(char) <= 0xDCFF else char
        for char in piece.decode("utf-8", "surrogateescape")
    )
