"""`tokpack encode`: text in, a verified-to-be-whole dataset out."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from tokpack.chat.options import ChatOptions, read_template
from tokpack.cli.console import (
    cores,
    parse_bytes,
    parse_pairs,
    print_json,
)
from tokpack.cli.encode_flags import (
    AddBos,
    AddEos,
    AddSpecialTokens,
    AsJson,
    ChatTemplate,
    CompletionField,
    DryRun,
    EngineChoice,
    ExecutorName,
    FormatName,
    FormatOption,
    FurtherSplits,
    Inputs,
    KeepEmpty,
    MaxDocumentBytes,
    MaxLength,
    MessagesField,
    NumShards,
    NumWorkers,
    Output,
    Overwrite,
    PaddingRule,
    PadId,
    PromptField,
    Quiet,
    ShardBytes,
    SpecialPolicy,
    StorageDtype,
    TokenizerReference,
    TooLong,
    TruncationSide,
    UnitBytes,
    ValFraction,
    ValidationInputs,
    VocabSize,
    WithText,
)
from tokpack.cli.encode_report import EncodeReport, show_estimate, show_result, summary
from tokpack.cli.flags import InputFormat, OnErrorPolicy, Separator, TextField, TextSplitRule
from tokpack.cli.train_tokenizer import train_if_missing
from tokpack.encoding.job import prepare
from tokpack.encoding.options import EncodeOptions
from tokpack.encoding.run import STDIN, Listener, encode_job
from tokpack.encoding.transfer import delivered
from tokpack.errors import UsageError
from tokpack.plugins import discover
from tokpack.protocols import SourceOptions, TextSplit

__all__ = ["encode"]


def encode(
    inputs: Inputs = None,
    tokenizer: TokenizerReference = None,
    format_name: FormatName = "bin",
    output: Output = "tokenized",
    validation: ValidationInputs = None,
    val_fraction: ValFraction = 0.0,
    split: FurtherSplits = None,
    input_format: InputFormat = None,
    text_field: TextField = "text",
    messages_field: MessagesField = None,
    prompt_field: PromptField = None,
    completion_field: CompletionField = None,
    chat_template: ChatTemplate = None,
    text_split: TextSplitRule = "auto",
    separator: Separator = "<|endoftext|>",
    on_error: OnErrorPolicy = "fail",
    keep_empty: KeepEmpty = False,
    max_document_bytes: MaxDocumentBytes = "64MiB",
    special: SpecialPolicy = "text",
    bos: AddBos = False,
    eos: AddEos = None,
    add_special_tokens: AddSpecialTokens = False,
    vocab_size: VocabSize = None,
    max_length: MaxLength = None,
    too_long: TooLong = "split",
    truncation_side: TruncationSide = "right",
    padding: PaddingRule = "none",
    pad_id: PadId = None,
    engine: EngineChoice = "auto",
    dtype: StorageDtype = None,
    shard_bytes: ShardBytes = None,
    num_shards: NumShards = None,
    with_text: WithText = False,
    format_option: FormatOption = None,
    overwrite: Overwrite = False,
    workers: NumWorkers = None,
    unit_bytes: UnitBytes = "8MiB",
    executor: ExecutorName = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Turn text into a dataset of token ids, ready for training.

    The result depends on inputs and options only: not on workers, time, or how often the work was
    interrupted. Stopped or killed, the **same command continues** where it was.

    Examples:

    `tokpack encode --tokenizer tiktoken:gpt2 --format bin` reads ./data and writes ./tokenized

    `tokpack encode corpus.jsonl.zst -t tiktoken:cl100k_base --val-fraction 0.005 -o cl100k`

    `tokpack encode train.txt --validation val.txt -t bpe:./tok --vocab-size 10000` trains ./tok first
    """
    if tokenizer is None:
        raise UsageError(
            "which tokenizer? --tokenizer tiktoken:gpt2, hf:./tokenizer.json, bpe:./tok; "
            "byte needs no download. `tokpack plugins tokenizer` lists what is installed"
        )
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
