"""The records that plugins announce.

A record says what exists without importing it: a name, one line for people, and ``"module:attr"`` strings
that are imported on first use. So `tokpack --help` and `tokpack plugins` stay quick, whatever is installed.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from tokpack.errors import PluginError

__all__ = [
    "CommandSpec",
    "ExecutorSpec",
    "FormatSpec",
    "SamplerSpec",
    "SourceSpec",
    "Spec",
    "TokenizerSpec",
    "TrackerSpec",
    "load",
]

# Two characters or more, so that a Windows drive is never taken for a backend: C:\x is a path.
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_TARGET_FIELDS = frozenset(
    {"open", "train", "accelerate", "writer", "reader", "index_writer", "index_reader"}
)


def load(target: str) -> Any:
    """Import ``"package.module:attribute"`` and return the attribute.

    Raises:
        PluginError: the module cannot be imported or has no such attribute.
    """
    module_name, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise PluginError(
            f"cannot load {target!r}: {error}; reinstall the plugin that provides it"
        ) from error


@dataclass(frozen=True, slots=True)
class _Named:
    name: str
    summary: str

    def __post_init__(self) -> None:
        if len(self.name) < 2 or not _NAME.fullmatch(self.name):
            raise PluginError(
                f"{type(self).__name__} name {self.name!r} must be two or more lower-case letters, digits "
                "and single dashes, beginning with a letter"
            )
        if not self.summary or "\n" in self.summary:
            raise PluginError(f"{type(self).__name__} {self.name!r} needs a summary of one line")
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in _TARGET_FIELDS and value is not None and not _TARGET.fullmatch(value):
                raise PluginError(
                    f"{type(self).__name__} {self.name!r}: {item.name} is {value!r}; "
                    'write it as "package.module:attribute"'
                )


@dataclass(frozen=True, slots=True)
class TokenizerSpec(_Named):
    """A tokenizer backend: the ``tiktoken`` of ``tiktoken:gpt2``.

    ``open`` is called as ``open(model, options: TokenizerOptions) -> Tokenizer``; ``model`` is what follows
    the first colon. ``train``, where given, is called as ``train(batches, options: TrainingOptions) ->
    Tokenizer``. ``accelerate``, where given, is called as ``accelerate(model: TiktokenModel | TokenizerJson)
    -> NativeEngine`` on behalf of other backends, through `tokpack.tokenizers.acceleration`; it raises
    UnsupportedError naming what it cannot reproduce exactly.
    """

    open: str
    train: str | None = None
    accelerate: str | None = None
    lossless: bool = True  # decode_bytes(encode(text)) == text.encode()


@dataclass(frozen=True, slots=True)
class FormatSpec(_Named):
    """A storage format: how one shard file is laid out.

    ``writer`` is called as ``writer(file, dtype, columns, options) -> FormatWriter`` with a binary file that
    is writable, readable and seekable; ``reader`` as ``reader(path, dtype) -> FormatReader``.

    An index, where there is one, is written by ``index_writer(file, dtype) -> IndexWriter``, with the dtype
    of the shard's tokens, and read by ``index_reader(path, dtype)``, which returns offsets (int64, first 0,
    documents + 1).
    """

    suffix: str  # ".parquet"
    writer: str
    reader: str
    memory_mapped: bool = False  # opening a shard does not read its tokens
    holds_documents: bool = True  # False: document boundaries lie in an index, a file beside the shard
    index_suffix: str = ".offsets.npy"
    index_writer: str = "tokpack.formats.offsets:OffsetsWriter"
    index_reader: str = "tokpack.formats.offsets:read_offsets"
    appendable: bool = (
        False  # the file is its tokens' bytes and nothing else, so shards join by concatenation
    )
    default_shard_bytes: int | None = None  # None: one shard per split unless the user asks for more
    holds_text: bool = False  # can store each document's text beside its ids
    columns: tuple[str, ...] = ()  # further per-token columns that it holds itself; others lie beside it
    options: tuple[str, ...] = ()  # names that `--format-option NAME=VALUE` may give


@dataclass(frozen=True, slots=True)
class SourceSpec(_Named):
    """A kind of input. ``open`` is called as ``open(options: SourceOptions) -> Source``."""

    suffixes: tuple[str, ...]  # file name endings, longest match wins: (".jsonl", ".jsonl.gz")
    open: str
    schemes: tuple[str, ...] = ()  # references that are not files: ("hf-datasets",)
    records: bool = False  # it has fields, and gives whole records where SourceOptions.record_fields asks


@dataclass(frozen=True, slots=True)
class SamplerSpec(_Named):
    """A rule that cuts rows.

    ``open`` is called as ``open(store: TokenStore, options: SamplerOptions) -> Sampler``.
    """

    open: str
    options: tuple[str, ...] = ()  # names that `--sampler-option NAME=VALUE` may give


@dataclass(frozen=True, slots=True)
class ExecutorSpec(_Named):
    """A way to run units of work. ``open`` is called as ``open(workers) -> Executor``."""

    open: str


@dataclass(frozen=True, slots=True)
class TrackerSpec(_Named):
    """A place where training metrics go. ``open`` is called as ``open(run: RunInfo) -> Tracker``."""

    open: str


@dataclass(frozen=True, slots=True)
class CommandSpec(_Named):
    """A subcommand of `tokpack`. ``open`` names a function whose signature Typer understands."""

    open: str
    group: str = "Commands"  # heading under which `tokpack --help` lists it


Spec: TypeAlias = (
    TokenizerSpec | FormatSpec | SourceSpec | SamplerSpec | ExecutorSpec | TrackerSpec | CommandSpec
)
