"""`tokpack convert`: the same documents in another storage format."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tokpack.cli.console import (
    format_bytes,
    format_count,
    format_seconds,
    parse_bytes,
    parse_pairs,
    print_json,
    stderr,
)
from tokpack.encoding.convert import ConvertOptions
from tokpack.encoding.convert import convert as convert_dataset
from tokpack.encoding.transfer import delivered

__all__ = ["convert"]


def convert(
    dataset: Annotated[Path, typer.Argument(help="Folder of the dataset.")] = Path("tokenized"),
    format_name: Annotated[
        str,
        typer.Option("--format", "-f", help="Storage format: bin, npy, parquet, arrow, jsonl, megatron, …"),
    ] = ...,  # type: ignore[assignment]
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder of the new dataset, or a URL to upload it to.")
    ] = ...,  # type: ignore[assignment]
    dtype: Annotated[
        str | None, typer.Option(help="uint16 or uint32. Default: as it is.", show_default=False)
    ] = None,
    shard_bytes: Annotated[
        str | None,
        typer.Option(
            help="End a shard after so many bytes of tokens: 500MB. Default: what the format prefers."
        ),
    ] = None,
    format_option: Annotated[
        list[str] | None, typer.Option(help="Option of the format, as NAME=VALUE.")
    ] = None,
    with_text: Annotated[
        bool,
        typer.Option("--with-text", help="Store each document's text too (jsonl): what its ids decode to."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing dataset once the new one is proved.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a dataset in another format, without tokenizing again.

    The documents are the same, and so is the logical digest that names them. Every file is read back before
    the new dataset gets its name; killed or failed, nothing stands there.

    Examples:

    `tokpack convert tokenized --format parquet --output for-duckdb`

    `tokpack convert tokenized -f megatron -o for-megatron`
    """
    begun = time.monotonic()
    options = ConvertOptions(
        format=format_name,
        dtype=dtype,
        shard_bytes=parse_bytes(shard_bytes),
        format_options=parse_pairs(format_option or [], "--format-option"),
        with_text=with_text,
    )
    columns = (TextColumn("converting"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = stderr()
    shown = console.is_terminal and not (quiet or as_json)
    bars = Progress(*columns, console=console, transient=True, disable=not shown)
    with delivered(output, overwrite=overwrite) as folder, bars as bar:
        task = bar.add_task("convert", total=None)
        written = convert_dataset(
            dataset,
            folder,
            options,
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    manifest = written.manifest
    if as_json:
        print_json(
            {
                "path": str(output),
                "format": manifest.format.name,
                "root_digest": manifest.root_digest,
                "digests": {name: split.digest for name, split in manifest.splits.items()},
            }
        )
        return
    if quiet:
        return
    for name, split in manifest.splits.items():
        size = sum(info.size_bytes for shard in split.shards for info in shard.files)
        number = len(split.shards)
        typer.echo(
            f"{name}: {format_count(split.documents)} documents, {format_count(split.tokens)} tokens, "
            f"{number} file{'s' * (number != 1)}, {format_bytes(size)}; digest {split.digest[:16]}… as before"
        )
    typer.echo(f"{output} is complete and was read back, {format_seconds(time.monotonic() - begun)}")
