"""`tokpack encode`: text in, a verified-to-be-whole dataset out."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tokpack.chat.options import ChatOptions, read_template
from tokpack.cli.console import (
    cores,
    parse_bytes,
    parse_pairs,
    print_json,
)
from tokpack.cli.encode_report import EncodeReport, show_estimate, show_result, summary
from tokpack.cli.flags import DATA, InputFormat, OnErrorPolicy, Separator, TextField, TextSplitRule
from tokpack.cli.train_tokenizer import train_if_missing
from tokpack.encoding.job import prepare
from tokpack.encoding.options import EncodeOptions
from tokpack.encoding.run import STDIN, Listener, encode_job
from tokpack.encoding.transfer import delivered
from tokpack.errors import UsageError
from tokpack.plugins import discover
from tokpack.protocols import Engine, SourceOptions, Special, TextSplit
from tokpack.tokenizers.rows import Side

__all__ = ["encode"]

_CHAT = "Chat data"
_TOKENS = "How to tokenize"
_OUTPUT = "What to write"
_RUN = "How to run"


def encode(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Files, folders, quoted globs or URLs; `-` is standard input. Default: standard input if "
            "piped, else `./data`.",
            show_default=False,
        ),
    ] = None,
    tokenizer: Annotated[
        str,
        typer.Option(
            "--tokenizer",
            "-t",
            help="backend:model, such as `tiktoken:gpt2`, `hf:./tokenizer.json`, `bpe:./tok`, `byte`.",
            rich_help_panel=_TOKENS,
            show_default=False,
        ),
    ] = ...,  # type: ignore[assignment]
    format_name: Annotated[
        str, typer.Option("--format", "-f", help="Storage format: bin, npy, …", rich_help_panel=_OUTPUT)
    ] = "bin",
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the dataset, or a URL to upload it to (s3://bucket/name).",
            rich_help_panel=_OUTPUT,
        ),
    ] = "tokenized",
    validation: Annotated[
        list[str] | None,
        typer.Option("--validation", help="Inputs of the validation split.", rich_help_panel=DATA),
    ] = None,
    val_fraction: Annotated[
        float,
        typer.Option(
            help="Hold out this share of the training documents, chosen by the hash of their content, so "
            "that exact duplicates stay together.",
            rich_help_panel=DATA,
        ),
    ] = 0.0,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", help="Inputs of a further split, as NAME=GLOB.", rich_help_panel=DATA),
    ] = None,
    input_format: InputFormat = None,
    text_field: TextField = "text",
    messages_field: Annotated[
        str | None,
        typer.Option(
            help="Documents are conversations in this field: lists of messages with role and content. "
            "What the assistant says is trained, by a loss_mask beside the tokens.",
            show_default=False,
            rich_help_panel=_CHAT,
        ),
    ] = None,
    prompt_field: Annotated[
        str | None,
        typer.Option(
            help="Documents are a prompt in this field, followed by its completion.",
            show_default=False,
            rich_help_panel=_CHAT,
        ),
    ] = None,
    completion_field: Annotated[
        str | None,
        typer.Option(
            help="Field of the completion, which is trained.", show_default=False, rich_help_panel=_CHAT
        ),
    ] = None,
    chat_template: Annotated[
        Path | None,
        typer.Option(
            help="File with the Jinja template for conversations. Default: the tokenizer's own.",
            show_default=False,
            rich_help_panel=_CHAT,
        ),
    ] = None,
    text_split: TextSplitRule = "auto",
    separator: Separator = "<|endoftext|>",
    on_error: OnErrorPolicy = "fail",
    keep_empty: Annotated[
        bool,
        typer.Option("--keep-empty", help="Store empty documents as BOS/EOS alone.", rich_help_panel=DATA),
    ] = False,
    max_document_bytes: Annotated[
        str, typer.Option(help="A larger document is an error (or a skip).", rich_help_panel=DATA)
    ] = "64MiB",
    special: Annotated[
        Special,
        typer.Option(
            help="A special token spelled in a document: plain text, its special id, or an error.",
            rich_help_panel=_TOKENS,
        ),
    ] = "text",
    bos: Annotated[
        bool, typer.Option("--bos/--no-bos", help="Put BOS before each document.", rich_help_panel=_TOKENS)
    ] = False,
    eos: Annotated[
        bool | None,
        typer.Option(
            "--eos/--no-eos",
            help="Put EOS after each document. Default: where the tokenizer has one.",
            show_default=False,
            rich_help_panel=_TOKENS,
        ),
    ] = None,
    add_special_tokens: Annotated[
        bool,
        typer.Option(
            "--add-special-tokens",
            help="Add what the tokenizer itself puts around a document, such as `[CLS] … [SEP]`.",
            rich_help_panel=_TOKENS,
        ),
    ] = False,
    vocab_size: Annotated[
        int | None,
        typer.Option(
            help="Train the tokenizer (such as `bpe:./tok`) to this size first, on the training inputs, "
            "unless it exists.",
            rich_help_panel=_TOKENS,
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Most tokens in a stored document, BOS and EOS included.", rich_help_panel=_TOKENS),
    ] = None,
    too_long: Annotated[
        Literal["split", "truncate", "skip"],
        typer.Option(help="What happens to longer documents; always counted.", rich_help_panel=_TOKENS),
    ] = "split",
    truncation_side: Annotated[
        Side, typer.Option(help="The end that truncate takes tokens from.", rich_help_panel=_TOKENS)
    ] = "right",
    padding: Annotated[
        Literal["none", "max_length"],
        typer.Option(
            help="Fill documents up to --max-length, with an attention_mask beside the tokens.",
            rich_help_panel=_TOKENS,
        ),
    ] = "none",
    pad_id: Annotated[
        int | None,
        typer.Option(
            help="Id to fill with. Default: the tokenizer's PAD.", show_default=False, rich_help_panel=_TOKENS
        ),
    ] = None,
    engine: Annotated[
        Engine,
        typer.Option(
            help="auto: the native engine where it has proved equal ids, else the reference library.",
            rich_help_panel=_TOKENS,
        ),
    ] = "auto",
    dtype: Annotated[
        str | None,
        typer.Option(help="uint16 or uint32. Default: by vocabulary size.", rich_help_panel=_OUTPUT),
    ] = None,
    shard_bytes: Annotated[
        str | None,
        typer.Option(help="End a shard after so many bytes of tokens: 500MB.", rich_help_panel=_OUTPUT),
    ] = None,
    num_shards: Annotated[
        int | None, typer.Option(help="Write this many shards per split.", rich_help_panel=_OUTPUT)
    ] = None,
    with_text: Annotated[
        bool,
        typer.Option(
            "--with-text",
            help="Store each document's text too (jsonl): what its ids decode to.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    format_option: Annotated[
        list[str] | None,
        typer.Option(help="Option of the format, as NAME=VALUE.", rich_help_panel=_OUTPUT),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace an existing dataset once the new one is complete; begin unfinished work anew.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-j",
            help="Worker processes; the result does not depend on it. Default: one per core.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    unit_bytes: Annotated[
        str,
        typer.Option(
            help="Bytes of input in one unit of work: the grain of resuming and of progress.",
            rich_help_panel=_RUN,
        ),
    ] = "8MiB",
    executor: Annotated[
        str | None,
        typer.Option(help="Where units run: serial, processes, …", rich_help_panel=_RUN),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show the plan and an estimate; write nothing.", rich_help_panel=_RUN),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors.", rich_help_panel=_RUN)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Turn text into a dataset of token ids, ready for training.

    The result depends on inputs and options only: not on workers, time, or how often the work was
    interrupted. Stopped or killed, the **same command continues** where it was.

    Examples:

    `tokpack encode --tokenizer tiktoken:gpt2 --format bin` reads ./data and writes ./tokenized

    `tokpack encode corpus.jsonl.zst -t tiktoken:cl100k_base --val-fraction 0.005 -o cl100k`

    `tokpack encode train.txt --validation val.txt -t bpe:./tok --vocab-size 10000` trains ./tok first
    """
    options = EncodeOptions(
        tokenizer=tokenizer,
        format=format_name,
        engine=engine,
        special=special,
        bos=bos,
        eos=eos,
        dtype=dtype,
        source=SourceOptions(
            text_field=text_field,
            split=_text_split(text_split, separator),
            separator=separator,
            on_error=on_error,
            max_document_bytes=parse_bytes(max_document_bytes) or 0,
        ),
        add_special_tokens=add_special_tokens,
        chat=_chat(messages_field, prompt_field, completion_field, chat_template),
        input_format=input_format,
        keep_empty=keep_empty,
        max_length=max_length,
        too_long=too_long,
        truncation_side=truncation_side,
        padding=padding,
        pad_id=pad_id,
        val_fraction=val_fraction,
        shard_bytes=parse_bytes(shard_bytes),
        num_shards=num_shards,
        unit_bytes=parse_bytes(unit_bytes) or 0,
        format_options=parse_pairs(format_option or [], "--format-option"),
        with_text=with_text,
    )
    splits = {name: [pattern] for name, pattern in parse_pairs(split or [], "--split").items()}
    paths = _default_inputs(inputs or [])
    if vocab_size is not None:
        train_if_missing(
            tokenizer,
            vocab_size,
            paths,
            validation=validation or [],
            source=options.source,
            input_format=input_format,
            quiet=quiet or as_json,
        )
    report = EncodeReport(quiet=quiet or as_json)
    if dry_run:
        if STDIN in paths:
            raise UsageError("--dry-run cannot look ahead in standard input; name files instead")
        job = prepare(paths, options, validation=validation or [], splits=splits, plugins=discover())
        show_estimate(job, workers or cores(), as_json=as_json)
        return
    with report, delivered(output, overwrite=overwrite) as folder:
        encoded = encode_job(
            paths,
            options,
            output=folder,
            validation=validation or [],
            splits=splits,
            executor=executor,
            workers=workers or cores(),
            overwrite=overwrite,
            listener=Listener(report.plan, report.progress),
        )
    if as_json:
        print_json(summary(encoded))
    elif not quiet:
        show_result(encoded, output)


def _text_split(text_split: TextSplit, separator: str) -> TextSplit:
    """A separator of one's own is there to be used."""
    return "separator" if text_split == "auto" and separator != "<|endoftext|>" else text_split


def _chat(
    messages: str | None, prompt: str | None, completion: str | None, template: Path | None
) -> ChatOptions | None:
    if all(given is None for given in (messages, prompt, completion, template)):
        return None
    source = None if template is None else read_template(template)
    return ChatOptions(
        messages_field=messages, prompt_field=prompt, completion_field=completion, template=source
    )


def _default_inputs(inputs: list[str]) -> list[str]:
    if inputs:
        return inputs
    if _is_piped():
        return [STDIN]
    if not Path("data").is_dir():
        raise UsageError("no input: name files or a folder, pipe text in, or put files into ./data")
    return ["data"]


def _is_piped() -> bool:
    """Whether somebody feeds standard input: a pipe or a redirected file, not a terminal or /dev/null."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)
