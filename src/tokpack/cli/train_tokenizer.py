"""`tokpack train-tokenizer`: text in, a tokenizer out."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from tokpack.cli.console import (
    cores,
    format_bytes,
    format_count,
    parse_bytes,
    print_json,
    stderr,
)
from tokpack.cli.flags import DATA, InputFormat, OnErrorPolicy, Separator, TextField, TextSplitRule
from tokpack.cli.phases import PhaseProgress
from tokpack.cli.train_report import show, summary
from tokpack.encoding.run import STDIN
from tokpack.encoding.workspace import stdin_suffix
from tokpack.errors import UsageError
from tokpack.plugins import discover
from tokpack.protocols import SourceOptions, TrainingOptions
from tokpack.references import Reference
from tokpack.tokenizers.training import train_tokenizer

__all__ = ["train", "train_if_missing"]

_LEARN = "What to learn"
_OUTPUT = "What to write"
_RUN = "How to run"


def train(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Files, folders or quoted globs; `-` is standard input.",
            show_default=False,
        ),
    ],
    vocab_size: Annotated[
        int,
        typer.Option(
            "--vocab-size",
            help="Ids in all: 256 bytes, the merges, and the special tokens.",
            rich_help_panel=_LEARN,
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the tokenizer.", rich_help_panel=_OUTPUT)
    ] = Path("tok"),
    special: Annotated[
        list[str] | None,
        typer.Option(
            "--special",
            help="Special token; may be given several times. They split the text, and nothing is learnt "
            "from them. Default: `<|endoftext|>`.",
            show_default=False,
            rich_help_panel=_LEARN,
        ),
    ] = None,
    pattern: Annotated[
        str,
        typer.Option(
            help="How text is split before merging: gpt2, cl100k, o200k, llama3, qwen2.",
            rich_help_panel=_LEARN,
        ),
    ] = "gpt2",
    ties: Annotated[
        str,
        typer.Option(
            help="Which of equally frequent pairs is merged first. bytes: the greater two byte strings, as "
            "in CS336; hf: the smaller ids, as Hugging Face's trainer does.",
            rich_help_panel=_LEARN,
        ),
    ] = "bytes",
    min_frequency: Annotated[
        int, typer.Option(help="Never merge a pair that occurs less often.", rich_help_panel=_LEARN)
    ] = 1,
    max_token_length: Annotated[
        int | None, typer.Option(help="Most bytes in a token.", rich_help_panel=_LEARN)
    ] = None,
    backend: Annotated[
        str,
        typer.Option(help="Tokenizer backend that learns: bpe, sentencepiece, …", rich_help_panel=_LEARN),
    ] = "bpe",
    model: Annotated[
        str,
        typer.Option(
            help="Kind of model, where the backend has several: bpe, unigram.", rich_help_panel=_LEARN
        ),
    ] = "bpe",
    validation: Annotated[
        list[str] | None,
        typer.Option(
            "--validation", help="Inputs to measure the result on; never trained on.", rich_help_panel=DATA
        ),
    ] = None,
    limit_bytes: Annotated[
        str | None,
        typer.Option(help="Train on the first so many bytes of text: 2GB.", rich_help_panel=DATA),
    ] = None,
    input_format: InputFormat = None,
    text_field: TextField = "text",
    text_split: TextSplitRule = "auto",
    separator: Separator = "<|endoftext|>",
    on_error: OnErrorPolicy = "fail",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace an existing trained tokenizer once the new one is complete.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-j",
            help="Threads that count; the result does not depend on it. Default: one per core.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors.", rich_help_panel=_RUN)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Train a tokenizer on text, and save it in the formats of the field.

    The folder holds `tokenizer.json` (Hugging Face), `vocab.json` with `merges.txt` (GPT-2), and
    `ranks.tiktoken`, all with the same ids. It depends on the text and the options only, not on workers.

    Examples:

    `tokpack train-tokenizer train.txt --validation val.txt --vocab-size 10000 --output tok`

    `tokpack encode train.txt --tokenizer bpe:./tok` then uses it
    """
    begun = time.monotonic()
    with PhaseProgress(quiet=quiet or as_json) as progress, TemporaryDirectory(prefix="tokpack-") as folder:
        trained = train_tokenizer(
            [_kept_stdin(Path(folder), input_format) if item == STDIN else item for item in inputs],
            output,
            options=TrainingOptions(
                vocab_size=vocab_size,
                model=model,
                special_tokens=("<|endoftext|>",) if special is None else tuple(special),
                pattern=pattern,
                tie_rule=ties,
                min_frequency=min_frequency,
                max_token_length=max_token_length,
                workers=workers or cores(),
                progress=progress.report,
            ),
            backend=backend,
            validation=validation or [],
            source=SourceOptions(
                text_field=text_field, split=text_split, separator=separator, on_error=on_error
            ),
            input_format=input_format,
            limit_bytes=parse_bytes(limit_bytes),
            overwrite=overwrite,
        )
    seconds = time.monotonic() - begun
    if as_json:
        print_json(summary(trained, seconds))
    elif not quiet:
        show(trained, seconds)


def _kept_stdin(folder: Path, input_format: str | None) -> str:
    """Keep standard input in a file, for as long as the command runs, and return its name."""
    stream = sys.stdin.buffer
    if not (first := stream.read(1 << 16)):
        raise UsageError("standard input is empty; name files or a folder: tokpack train-tokenizer ./data")
    suffix = discover().sources[input_format].suffixes[0] if input_format else stdin_suffix(first)
    path = folder / f"stdin{suffix}"
    with path.open("wb") as file:
        file.write(first)
        shutil.copyfileobj(stream, file)
    return str(path)


def train_if_missing(
    tokenizer: str,
    vocab_size: int,
    inputs: Sequence[str],
    *,
    validation: Sequence[str],
    source: SourceOptions,
    input_format: str | None,
    quiet: bool,
) -> None:
    """Train the tokenizer that a reference names, if it does not exist, and say which of the two it was.

    Raises:
        UsageError: the reference names no path, or the input is a pipe, which cannot be read twice.
    """
    reference = Reference.parse(tokenizer)
    if not reference.model:
        raise UsageError(f"--vocab-size trains a tokenizer, but {tokenizer} names no folder for it")
    path = Path(reference.model)
    console = stderr()
    if path.exists():
        if not quiet:
            console.print(f"{path} exists: training skipped (--vocab-size {vocab_size} is not looked at)")
        return
    if STDIN in inputs:
        raise UsageError("standard input cannot be read twice; train first: tokpack train-tokenizer FILE")
    with PhaseProgress(quiet=quiet) as progress:
        trained = train_tokenizer(
            inputs,
            path,
            options=TrainingOptions(vocab_size=vocab_size, workers=cores(), progress=progress.report),
            backend=reference.backend,
            validation=validation,
            source=source,
            input_format=input_format,
        )
    if not quiet:
        console.print(
            f"trained {path}: {format_count(trained.tokenizer.vocab_size)} ids from "
            f"{format_bytes(trained.text_bytes)}, {trained.quality.bytes_per_token:.2f} bytes per token"
        )
