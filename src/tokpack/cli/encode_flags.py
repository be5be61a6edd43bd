"""The flags that only `tokpack encode` has, each with its help, in the order in which they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from tokpack.cli.flags import DATA
from tokpack.protocols import Engine, Special
from tokpack.tokenizers.rows import Side

__all__ = [
    "AddBos",
    "AddEos",
    "AddSpecialTokens",
    "AsJson",
    "ChatTemplate",
    "CompletionField",
    "DryRun",
    "EngineChoice",
    "ExecutorName",
    "FormatName",
    "FormatOption",
    "FurtherSplits",
    "Inputs",
    "KeepEmpty",
    "MaxDocumentBytes",
    "MaxLength",
    "MessagesField",
    "NumShards",
    "NumWorkers",
    "Output",
    "Overwrite",
    "PadId",
    "PaddingRule",
    "PromptField",
    "Quiet",
    "ShardBytes",
    "SpecialPolicy",
    "StorageDtype",
    "TokenizerReference",
    "TooLong",
    "TruncationSide",
    "UnitBytes",
    "ValFraction",
    "ValidationInputs",
    "VocabSize",
    "WithText",
]

_CHAT = "Chat data"
_TOKENS = "How to tokenize"
_OUTPUT = "What to write"
_RUN = "How to run"

Inputs: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Files, folders, quoted globs or URLs; `-` is standard input. Default: standard input if "
        "piped, else `./data`.",
        show_default=False,
    ),
]
TokenizerReference: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        "-t",
        help="backend:model, such as `tiktoken:gpt2`, `hf:./tokenizer.json`, `bpe:./tok`, `byte`. Needed.",
        rich_help_panel=_TOKENS,
        show_default=False,
    ),
]
FormatName: TypeAlias = Annotated[
    str, typer.Option("--format", "-f", help="Storage format: bin, npy, …", rich_help_panel=_OUTPUT)
]
Output: TypeAlias = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        help="Folder of the dataset, or a URL to upload it to (s3://bucket/name).",
        rich_help_panel=_OUTPUT,
    ),
]
ValidationInputs: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--validation", help="Inputs of the validation split.", rich_help_panel=DATA),
]
ValFraction: TypeAlias = Annotated[
    float,
    typer.Option(
        help="Hold out this share of the training documents, chosen by the hash of their content, so "
        "that exact duplicates stay together.",
        rich_help_panel=DATA,
    ),
]
FurtherSplits: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--split", help="Inputs of a further split, as NAME=GLOB.", rich_help_panel=DATA),
]
MessagesField: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Documents are conversations in this field: lists of messages with role and content. "
        "What the assistant says is trained, by a loss_mask beside the tokens.",
        show_default=False,
        rich_help_panel=_CHAT,
    ),
]
PromptField: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Documents are a prompt in this field, followed by its completion.",
        show_default=False,
        rich_help_panel=_CHAT,
    ),
]
CompletionField: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Field of the completion, which is trained.", show_default=False, rich_help_panel=_CHAT
    ),
]
ChatTemplate: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="File with the Jinja template for conversations. Default: the tokenizer's own.",
        show_default=False,
        rich_help_panel=_CHAT,
    ),
]
KeepEmpty: TypeAlias = Annotated[
    bool,
    typer.Option("--keep-empty", help="Store empty documents as BOS/EOS alone.", rich_help_panel=DATA),
]
MaxDocumentBytes: TypeAlias = Annotated[
    str, typer.Option(help="A larger document is an error (or a skip).", rich_help_panel=DATA)
]
SpecialPolicy: TypeAlias = Annotated[
    Special,
    typer.Option(
        help="A special token spelled in a document: plain text, its special id, or an error.",
        rich_help_panel=_TOKENS,
    ),
]
AddBos: TypeAlias = Annotated[
    bool, typer.Option("--bos/--no-bos", help="Put BOS before each document.", rich_help_panel=_TOKENS)
]
AddEos: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--eos/--no-eos",
        help="Put EOS after each document. Default: where the tokenizer has one.",
        show_default=False,
        rich_help_panel=_TOKENS,
    ),
]
AddSpecialTokens: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--add-special-tokens",
        help="Add what the tokenizer itself puts around a document, such as `[CLS] … [SEP]`.",
        rich_help_panel=_TOKENS,
    ),
]
VocabSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Train the tokenizer (such as `bpe:./tok`) to this size first, on the training inputs, "
        "unless it exists.",
        rich_help_panel=_TOKENS,
    ),
]
MaxLength: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Most tokens in a stored document, BOS and EOS included.", rich_help_panel=_TOKENS),
]
TooLong: TypeAlias = Annotated[
    Literal["split", "truncate", "skip"],
    typer.Option(help="What happens to longer documents; always counted.", rich_help_panel=_TOKENS),
]
TruncationSide: TypeAlias = Annotated[
    Side, typer.Option(help="The end that truncate takes tokens from.", rich_help_panel=_TOKENS)
]
PaddingRule: TypeAlias = Annotated[
    Literal["none", "max_length"],
    typer.Option(
        help="Fill documents up to --max-length, with an attention_mask beside the tokens.",
        rich_help_panel=_TOKENS,
    ),
]
PadId: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Id to fill with. Default: the tokenizer's PAD.", show_default=False, rich_help_panel=_TOKENS
    ),
]
EngineChoice: TypeAlias = Annotated[
    Engine,
    typer.Option(
        help="auto: the native engine where it has proved equal ids, else the reference library.",
        rich_help_panel=_TOKENS,
    ),
]
StorageDtype: TypeAlias = Annotated[
    str | None,
    typer.Option(help="uint16 or uint32. Default: by vocabulary size.", rich_help_panel=_OUTPUT),
]
ShardBytes: TypeAlias = Annotated[
    str | None,
    typer.Option(help="End a shard after so many bytes of tokens: 500MB.", rich_help_panel=_OUTPUT),
]
NumShards: TypeAlias = Annotated[
    int | None, typer.Option(help="Write this many shards per split.", rich_help_panel=_OUTPUT)
]
WithText: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--with-text",
        help="Store each document's text too (jsonl): what its ids decode to.",
        rich_help_panel=_OUTPUT,
    ),
]
FormatOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="Option of the format, as NAME=VALUE.", rich_help_panel=_OUTPUT),
]
Overwrite: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace an existing dataset once the new one is complete; begin unfinished work anew.",
        rich_help_panel=_OUTPUT,
    ),
]
NumWorkers: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--workers",
        "-j",
        help="Worker processes; the result does not depend on it. Default: one per core.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
UnitBytes: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Bytes of input in one unit of work: the grain of resuming and of progress.",
        rich_help_panel=_RUN,
    ),
]
ExecutorName: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Where units run: serial, processes, …", rich_help_panel=_RUN),
]
DryRun: TypeAlias = Annotated[
    bool,
    typer.Option("--dry-run", help="Show the plan and an estimate; write nothing.", rich_help_panel=_RUN),
]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but errors.", rich_help_panel=_RUN)
]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=_RUN)
]
