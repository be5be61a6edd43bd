"""What a person may ask of `encode`, in one frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tokpack.chat.options import ChatOptions
from tokpack.errors import UsageError
from tokpack.protocols import Engine, SourceOptions, Special
from tokpack.tokenizers.rows import Side

__all__ = ["EncodeOptions", "Recorded", "TooLong"]

#: What happens to a document longer than ``max_length``.
TooLong: TypeAlias = Literal["split", "truncate", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOptions:
    """Everything that the stored bytes depend on, beside the inputs themselves.

    Workers, batch sizes and paths of the output are absent on purpose: the output does not depend on them.
    """

    tokenizer: str
    format: str = "bin"
    engine: Engine = "auto"
    special: Special = "text"
    bos: bool | None = None  # None: no BOS
    eos: bool | None = None  # None: EOS after each document where the tokenizer has one
    dtype: str | None = None  # None: from the vocabulary size
    add_special_tokens: bool = False  # what the tokenizer's own template puts around a document
    source: SourceOptions = field(default_factory=SourceOptions)
    chat: ChatOptions | None = None  # documents are conversations or pairs, and get a loss mask
    input_format: str | None = None  # None: from the file name
    keep_empty: bool = False  # store an empty document as its boundaries alone
    max_length: int | None = None  # tokens of a stored document, boundaries included
    too_long: TooLong = "split"
    truncation_side: Side = "right"
    padding: Literal["none", "max_length"] = "none"
    pad_id: int | None = None  # None: the tokenizer's own
    val_fraction: float = 0.0
    shard_bytes: int | None = None
    num_shards: int | None = None
    unit_bytes: int = 8 << 20
    format_options: Mapping[str, str] = field(default_factory=dict)
    with_text: bool = False  # store each document's text too, where the format can

    def __post_init__(self) -> None:
        if not 0 <= self.val_fraction < 1:
            raise UsageError(f"--val-fraction is {self.val_fraction}; it must be at least 0 and below 1")
        if self.shard_bytes is not None and self.num_shards is not None:
            raise UsageError("--shard-bytes and --num-shards exclude each other; give one of them")
        for name in ("shard_bytes", "num_shards", "max_length", "unit_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {value}; it must be at least 1")

        if self.padding == "max_length" and self.max_length is None:
            raise UsageError("--padding max_length needs --max-length: say how long documents are to be")
        if self.with_text and self.padding != "none":
            raise UsageError("--with-text and --padding exclude each other: padding has no text")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what is stored beside every token."""
        columns = {"attention_mask": self.padding != "none", "loss_mask": self.chat is not None}
        return tuple(name for name, wanted in columns.items() if wanted)

    def recorded(self) -> Recorded:
        """Return what the manifest records: every setting that shapes documents and tokens."""
        return Recorded(
            special=self.special,
            bos=bool(self.bos),
            eos=bool(self.eos),
            add_special_tokens=self.add_special_tokens,
            keep_empty=self.keep_empty,
            max_length=self.max_length,
            too_long=self.too_long,
            truncation_side=self.truncation_side,
            padding=self.padding,
            pad_id=self.pad_id,
            chat=self.chat,
            val_fraction=self.val_fraction,
            source=self.source,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The settings that shaped a dataset's documents and tokens, as its manifest keeps them."""

    special: Special
    bos: bool
    eos: bool
    add_special_tokens: bool = False
    keep_empty: bool
    max_length: int | None
    too_long: TooLong
    truncation_side: Side = "right"
    padding: Literal["none", "max_length"] = "none"
    pad_id: int | None = None
    chat: ChatOptions | None = None
    val_fraction: float
    source: SourceOptions

    def options(self, tokenizer: str) -> EncodeOptions:
        """Return the options with which encoding again gives the same documents."""
        return EncodeOptions(
            tokenizer=tokenizer,
            special=self.special,
            bos=self.bos,
            eos=self.eos,
            add_special_tokens=self.add_special_tokens,
            keep_empty=self.keep_empty,
            max_length=self.max_length,
            too_long=self.too_long,
            truncation_side=self.truncation_side,
            padding=self.padding,
            pad_id=self.pad_id,
            chat=self.chat,
            val_fraction=self.val_fraction,
            source=self.source,
        )
