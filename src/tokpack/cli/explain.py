"""`tokpack explain`: which text a training row is made of, and where that text comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tokpack.cli.console import print_json
from tokpack.cli.live import format_epochs
from tokpack.errors import UsageError
from tokpack.explain import Piece, explain_row, find_position
from tokpack.plugins import discover
from tokpack.protocols import Tokenizer
from tokpack.train.config import DataConfig
from tokpack.train.corpus import epochs_seen, open_corpus, parse_mixture

__all__ = ["explain"]

_CHARACTERS = 240


def explain(
    dataset: Annotated[
        Path | None,
        typer.Argument(help="Folder of the dataset. Default: ./tokenized.", show_default=False),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH=WEIGHT", help="Datasets of a mixture with their weights, as in `train`."),
    ] = None,
    sampler: Annotated[
        str, typer.Option(help="Rule that cuts rows: random-block, sliding-window, packed, …")
    ] = "random-block",
    sampler_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Option of the sampler, as in `train`.")
    ] = None,
    seq_len: Annotated[int, typer.Option(help="Tokens per row.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of the order of rows.")] = 0,
    batch_size: Annotated[
        int, typer.Option(help="Rows per step over all ranks: the global batch size of the run.")
    ] = 16,
    step: Annotated[int, typer.Option(help="Step of the run, from 0.")] = 0,
    row: Annotated[int, typer.Option(help="Row of that step's global batch, from 0.")] = 0,
    split: Annotated[str, typer.Option(help="Split to sample.")] = "train",
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The folder that encode read from: find each document's exact position in its file, and "
            "prove its tokens.",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show all of the text.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show where every segment of a training row came from, with its text.

    Rows are a pure function of dataset, sampler, seed and row number, so this is what a run saw at that step,
    on however many GPUs.

    Examples:

    `tokpack explain tokenized --sampler packed --seq-len 1024 --seed 0 --step 1234 --row 5`

    `tokpack explain --data ./web=0.7 --data ./code=0.3 --step 1234 --row 5`
    """
    if step < 0 or not 0 <= row < batch_size:
        raise UsageError(
            f"step {step} and row {row}: steps count from 0, rows from 0 to {batch_size - 1} (--batch-size)"
        )
    plugins = discover()
    settings = DataConfig(
        dataset=str(dataset or "tokenized"),
        mixture=parse_mixture(data or [], instead_of=dataset),
        sampler=sampler,
        sampler_options=dict(map(_assignment, sampler_option or [])),
        seq_len=seq_len,
    )
    corpus = open_corpus(settings, plugins)
    rows = corpus.open_rows(settings, split, seed=seed, plugins=plugins)
    number = step * batch_size + row
    tokenizer = corpus.first.open_tokenizer()
    pieces = []
    for piece in explain_row(rows, number):
        found = None if source is None else find_position(piece, source)
        pieces.append(_described(piece, tokenizer, found))
    epochs = epochs_seen(rows, number)
    if as_json:
        print_json({"row": number, **epochs, "pieces": pieces})
        return
    count = f"{len(pieces):,} piece{'s' * (len(pieces) != 1)}"
    typer.echo(f"row {number:,} of {sampler}, epoch {format_epochs(epochs)}: {count}")
    for described in pieces:
        _print(described, full=full)


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--sampler-option is {text!r}; write NAME=VALUE, such as strategy=greedy")
    return name, value


def _described(piece: Piece, tokenizer: Tokenizer, found: tuple[str, int] | None) -> dict[str, Any]:
    described = {
        "dataset": str(piece.store.dataset.path),
        "segment": piece.segment,
        "columns": piece.columns,
        "document": piece.document,
        "document_tokens": piece.document_tokens,
        "document_length": piece.document_length,
        "shard": piece.shard,
        "shard_tokens": piece.shard_tokens,
        "inputs": piece.origin.inputs,
        "number": piece.origin.number,
        "position": found,
        "text": tokenizer.decode_bytes(piece.tokens).decode("utf-8", "replace"),
    }
    if piece.loss_mask is not None:
        counted = piece.tokens[piece.loss_mask != 0]
        described["loss_tokens"] = len(counted)
        described["loss_text"] = tokenizer.decode_bytes(counted).decode("utf-8", "replace")
    return described


def _print(described: dict[str, Any], *, full: bool) -> None:
    start, stop = described["document_tokens"]
    first, last = described["columns"]
    shard_start, shard_stop = described["shard_tokens"]
    if described["position"] is not None:
        source, position = described["position"]
        origin = f"{source}, from {position:,}"
    else:
        origin = f"document {described['number']:,} of " + " + ".join(
            f"{name} [{begin:,}, {end:,})" for name, begin, end in described["inputs"]
        )
    typer.secho(f"\nsegment {described['segment']}, columns [{first:,}, {last:,})", bold=True)
    typer.echo(
        f"  dataset  {described['dataset']}\n"
        f"  document {described['document']:,}, its tokens [{start:,}, {stop:,}) "
        f"of {described['document_length']:,}\n"
        f"  shard    {described['shard']}, tokens [{shard_start:,}, {shard_stop:,})\n"
        f"  source   {origin}\n{_quoted(described['text'], full=full)}",
        nl=False,
    )
    if "loss_text" in described:
        typer.echo(
            f"  loss     on {described['loss_tokens']:,} of {stop - start:,} tokens\n"
            f"{_quoted(described['loss_text'], full=full)}",
            nl=False,
        )


def _quoted(text: str, *, full: bool) -> str:
    if not full and len(text) > _CHARACTERS:
        half = _CHARACTERS // 2
        text = f"{text[:half]} […] {text[-half:]}"
    return "".join(f"  │ {line}\n" for line in text.splitlines())
