"""`tokpack import`: token files of other tools become a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tokpack.cli.console import format_count, print_json, stderr
from tokpack.encoding.adopt import AdoptOptions, adopt
from tokpack.errors import UsageError

__all__ = ["import_tokens"]


def import_tokens(
    files: Annotated[list[Path], typer.Argument(help="Token files, in order; for Megatron also a prefix.")],
    layout: Annotated[
        str, typer.Option("--from", help="What they are: bin (nanoGPT), npy, megatron, llmc, …")
    ],
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", "-t", help="The tokenizer that wrote them: tiktoken:gpt2, …")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new dataset.")] = Path(
        "tokenized"
    ),
    validation: Annotated[
        list[Path] | None, typer.Option(help="Files of the validation split; may be repeated.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="uint16 or uint32, of the files. Default: the smallest for the vocabulary."),
    ] = None,
    document_start: Annotated[
        int | None, typer.Option(help="The id that begins each document, as in llm.c's files.")
    ] = None,
    document_end: Annotated[
        int | None, typer.Option(help="The id that ends each document. Default: the tokenizer's EOS.")
    ] = None,
    format_name: Annotated[
        str, typer.Option("--format", "-f", help="Storage format of the dataset: bin, npy, parquet, …")
    ] = "bin",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing dataset once the new one is proved.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make a dataset of token files that have no manifest.

    Documents come from the index beside a file where its format has one (Megatron's `.idx`), else they end
    at the EOS id. The files are copied, checked against the vocabulary, and read back.

    Examples:

    `tokpack import train.bin --validation val.bin --from bin -t tiktoken:gpt2`

    `tokpack import corpus_text_document --from megatron -t hf:./tokenizer.json -o corpus`

    `tokpack import fineweb_train_*.bin --from llmc -t tiktoken:gpt2 --document-start 50256`
    """
    if document_start is not None and document_end is not None:
        raise UsageError("--document-start and --document-end exclude each other; give one of them")
    options = AdoptOptions(
        tokenizer=tokenizer,
        layout=layout,
        dtype=dtype,
        document_start=document_start,
        document_end=document_end,
        format=format_name,
    )
    columns = (TextColumn("importing"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = stderr()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("import", total=None)
        made = adopt(
            {"train": files} | ({"validation": validation} if validation else {}),
            output,
            options,
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print_json({"path": str(output), "root_digest": made.manifest.root_digest})
        return
    for name, split in made.manifest.splits.items():
        typer.echo(
            f"{name}: {format_count(split.documents)} documents, {format_count(split.tokens)} tokens; "
            f"digest {split.digest[:16]}…"
        )
    typer.echo(f"{output} is complete and was read back; next: tokpack train {output}")
