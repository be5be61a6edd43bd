"""`tokpack.encode`: the command's power as one function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from tokpack.chat.options import ChatOptions
from tokpack.dataset.store import Dataset, open_dataset
from tokpack.encoding.options import EncodeOptions, TooLong
from tokpack.encoding.run import encode_job
from tokpack.protocols import Engine, OnError, SourceOptions, Special, TextSplit
from tokpack.tokenizers.rows import Side

__all__ = ["encode"]


def encode(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path = "tokenized",
    *,
    tokenizer: str,
    format: str = "bin",  # noqa: A002 (the field's word, and the flag's)
    validation: Sequence[str | Path] = (),
    splits: Mapping[str, Sequence[str | Path]] | None = None,
    val_fraction: float = 0.0,
    input_format: str | None = None,
    text_field: str = "text",
    text_split: TextSplit = "auto",
    separator: str = "<|endoftext|>",
    on_error: OnError = "fail",
    keep_empty: bool = False,
    max_document_bytes: int = 64 << 20,
    special: Special = "text",
    bos: bool = False,
    eos: bool | None = None,
    add_special_tokens: bool = False,
    max_length: int | None = None,
    too_long: TooLong = "split",
    truncation_side: Side = "right",
    padding: Literal["none", "max_length"] = "none",
    pad_id: int | None = None,
    messages_field: str | None = None,
    prompt_field: str | None = None,
    completion_field: str | None = None,
    chat_template: str | None = None,
    engine: Engine = "auto",
    dtype: str | None = None,
    shard_bytes: int | None = None,
    num_shards: int | None = None,
    format_options: Mapping[str, str] | None = None,
    with_text: bool = False,
    overwrite: bool = False,
    workers: int = 1,
) -> Dataset:
    """Encode files, folders or globs into the dataset ``output`` and open it.

    Parameters are those of `tokpack encode --help`; sizes are in bytes, ``chat_template``
    is Jinja source. ``workers`` above 1 forks or spawns processes and changes nothing in the result. Killed
    at any instant, the same call continues.

    Raises:
        TokpackError: whatever is wrong, with the remedy; nothing incomplete stands under ``output``.
    """
    given = (messages_field, prompt_field, completion_field, chat_template)
    options = EncodeOptions(
        tokenizer=tokenizer,
        format=format,
        engine=engine,
        special=special,
        bos=bos,
        eos=eos,
        dtype=dtype,
        source=SourceOptions(
            text_field=text_field,
            split=text_split,
            separator=separator,
            on_error=on_error,
            max_document_bytes=max_document_bytes,
        ),
        add_special_tokens=add_special_tokens,
        chat=None
        if given == (None,) * 4
        else ChatOptions(
            messages_field=messages_field,
            prompt_field=prompt_field,
            completion_field=completion_field,
            template=chat_template,
        ),
        input_format=input_format,
        keep_empty=keep_empty,
        max_length=max_length,
        too_long=too_long,
        truncation_side=truncation_side,
        padding=padding,
        pad_id=pad_id,
        val_fraction=val_fraction,
        shard_bytes=shard_bytes,
        num_shards=num_shards,
        format_options=format_options or {},
        with_text=with_text,
    )
    paths = [inputs] if isinstance(inputs, str | Path) else inputs
    encoded = encode_job(
        [str(path) for path in paths],
        options,
        output=Path(output),
        validation=[str(path) for path in validation],
        splits={name: [str(path) for path in listed] for name, listed in (splits or {}).items()},
        workers=workers,
        overwrite=overwrite,
    )
    return open_dataset(encoded.path)
