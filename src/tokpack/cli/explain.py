"""`tokpack explain`: which text a training row is made of, and where that text comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tokpack.cli.console import print_json
from tokpack.dataset.store import open_dataset
from tokpack.errors import UsageError
from tokpack.explain import Piece, explain_row, find_position
from tokpack.protocols import SamplerOptions
from tokpack.samplers import open_sampler
from tokpack.samplers.epochs import epochs_at

__all__ = ["explain"]

_CHARACTERS = 240


def explain(
    dataset: Annotated[Path, typer.Argument(help="Folder of the dataset.")] = Path("tokenized"),
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

    Example: `tokpack explain tokenized --sampler packed --seq-len 1024 --seed 0 --step 1234 --row 5`
    """
    if step < 0 or not 0 <= row < batch_size:
        raise UsageError(
            f"step {step} and row {row}: steps count from 0, rows from 0 to {batch_size - 1} (--batch-size)"
        )
    opened = open_dataset(dataset)
    options = SamplerOptions(seq_len, seed, dict(map(_assignment, sampler_option or [])))
    rows = open_sampler(sampler, opened[split], options)
    number = step * batch_size + row
    tokenizer = opened.open_tokenizer()
    pieces = []
    for piece in explain_row(rows, number):
        found = None if source is None else find_position(piece, source)
        text = tokenizer.decode_bytes(piece.tokens).decode("utf-8", "replace")
        pieces.append(_described(piece, text, found))
    epoch = epochs_at(rows, number)
    if as_json:
        print_json({"row": number, "epoch": epoch, "pieces": pieces})
        return
    typer.echo(f"row {number:,} of {sampler}, epoch {epoch:.4f}: {len(pieces):,} pieces")
    for described in pieces:
        _print(described, full=full)


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--sampler-option is {text!r}; write NAME=VALUE, such as strategy=greedy")
    return name, value


def _described(piece: Piece, text: str, found: tuple[str, int] | None) -> dict[str, Any]:
    return {
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
        "text": text,
    }


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
    text = described["text"]
    if not full and len(text) > _CHARACTERS:
        half = _CHARACTERS // 2
        text = f"{text[:half]} […] {text[-half:]}"
    typer.secho(f"\nsegment {described['segment']}, columns [{first:,}, {last:,})", bold=True)
    typer.echo(
        f"  document {described['document']:,}, its tokens [{start:,}, {stop:,}) "
        f"of {described['document_length']:,}\n"
        f"  shard    {described['shard']}, tokens [{shard_start:,}, {shard_stop:,})\n"
        f"  source   {origin}\n" + "".join(f"  │ {line}\n" for line in text.splitlines()),
        nl=False,
    )
