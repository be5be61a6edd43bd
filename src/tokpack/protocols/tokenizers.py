"""What a tokenizer is: text to ids and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from tokpack.batches import TextBatch, TokenBatch
from tokpack.dtypes import TokenArray

#: What a literal special token in a document is: ordinary text, the special id, or an error.
Special: TypeAlias = Literal["text", "parse", "error"]
#: Which engine encodes: the reference library, tokpack's native one, or the native one if proved equal.
Engine: TypeAlias = Literal["auto", "reference", "native"]


@dataclass(frozen=True, slots=True)
class TokenizerOptions:
    """How to open a tokenizer."""

    engine: Engine = "auto"


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How to train a tokenizer; a backend refuses by name what it cannot do."""

    vocab_size: int
    model: str = "bpe"  # or "unigram"
    special_tokens: tuple[str, ...] = ("<|endoftext|>",)
    pattern: str = "gpt2"
    tie_rule: str = "bytes"
    min_frequency: int = 1
    max_token_length: int | None = None
    workers: int = 1
    #: Called as progress(phase, done, total) while training; total is 0 where it is not known.
    progress: Callable[[str, int, int], None] | None = None


class Tokenizer(Protocol):
    """Text to ids and back. Deterministic, thread-safe, picklable."""

    @property
    def vocab_size(self) -> int:
        """Largest id + 1, special tokens included."""
        ...

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Special tokens and their ids."""
        ...

    @property
    def bos_id(self) -> int | None:
        """Id that begins a document, if the tokenizer has one."""
        ...

    @property
    def eos_id(self) -> int | None:
        """Id that ends a document, if the tokenizer has one."""
        ...

    @property
    def pad_id(self) -> int | None:
        """Id that fills rows, if the tokenizer has one."""
        ...

    @property
    def engine(self) -> str:
        """Name and version of the code that encodes, such as ``tiktoken 0.14.0``."""
        ...

    @property
    def content_digest(self) -> str:
        """SHA-256 (hex) of the canonical content: vocabulary, merges, patterns, special tokens, settings.

        Equal for every engine and every file layout of one and the same tokenizer.
        """
        ...

    def encode_batch(self, texts: TextBatch, *, special: Special = "text") -> TokenBatch:
        """Encode each document on its own, adding nothing.

        Raises:
            SpecialTokenError: ``special="error"`` and a document spells a special token.
        """
        ...

    def decode_bytes(self, tokens: TokenArray | Sequence[int]) -> bytes:
        """Return the bytes that ``tokens`` stand for.

        Raises:
            DamagedError: an id is not in the vocabulary.
        """
        ...

    def save(self, directory: Path) -> None:
        """Write everything needed to open an equal tokenizer as ``backend:DIRECTORY``, without a network."""
        ...


@runtime_checkable
class SpanTokenizer(Tokenizer, Protocol):
    """A tokenizer that knows where in the text its tokens come from; a lossless one need not be one."""

    def encode_spans(self, texts: TextBatch, *, special: Special = "text") -> TokenBatch:
        """Encode like ``encode_batch``, with the columns ``start`` and ``stop`` (int64).

        They are bytes from the document's beginning. A token that is part of a character spans all of it.
        """
        ...


@runtime_checkable
class TemplateTokenizer(Tokenizer, Protocol):
    """A tokenizer that has its own way of marking where a document begins and ends."""

    @property
    def template(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids before and after the tokens of one document."""
        ...


@runtime_checkable
class ChatTokenizer(Tokenizer, Protocol):
    """A tokenizer that comes with a chat template."""

    @property
    def chat_template(self) -> str | None:
        """Jinja source of the template, if there is one."""
        ...

    @property
    def chat_tokens(self) -> Mapping[str, str]:
        """Names that a template may print, such as ``bos_token``, and their text."""
        ...


@dataclass(frozen=True, slots=True)
class TiktokenModel:
    """A byte-level BPE as tiktoken describes one."""

    pattern: str  # the regular expression that splits text
    ranks: Mapping[bytes, int]  # token bytes to id; the lower id merges first
    special_tokens: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TokenizerJson:
    """A tokenizer as Hugging Face's tokenizers stores one: the content of tokenizer.json."""

    content: bytes


class NativeEngine(Protocol):
    """Encodes and decodes exactly like a reference library. Thread-safe, picklable.

    `TokenizerSpec.accelerate` gives one; a backend uses it only after it has proved equal ids on the probe
    set, which `tokpack.tokenizers.acceleration.native_engine` sees to.
    """

    @property
    def name(self) -> str:
        """Name and version of the engine, such as ``tokpack-bpe 0.1.0``."""
        ...

    def encode_batch(self, texts: TextBatch, *, special: Special = "text") -> TokenBatch:
        """See `Tokenizer.encode_batch`; adds nothing and leaves the post-processor to the caller."""
        ...

    def decode_bytes(self, tokens: TokenArray | Sequence[int]) -> bytes:
        """See `Tokenizer.decode_bytes`."""
        ...
