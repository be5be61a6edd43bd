"""The contracts between tokpack and its plugins.

Plugins depend on these shapes and inherit from nothing. Whatever crosses a process boundary must pickle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import Batch, TextBatch, TokenBatch
from tokpack.dtypes import TokenArray

__all__ = [
    "ChatTokenizer",
    "Engine",
    "Executor",
    "FormatReader",
    "FormatWriter",
    "IndexWriter",
    "NativeEngine",
    "OnError",
    "Problem",
    "RunInfo",
    "Sampler",
    "SamplerOptions",
    "Slice",
    "Source",
    "SourceBatch",
    "SourceOptions",
    "Span",
    "SpanTokenizer",
    "Special",
    "TemplateTokenizer",
    "TextSplit",
    "TiktokenModel",
    "TokenStore",
    "Tokenizer",
    "TokenizerJson",
    "TokenizerOptions",
    "Tracker",
    "TrainingOptions",
]

#: What a literal special token in a document is: ordinary text, the special id, or an error.
Special: TypeAlias = Literal["text", "parse", "error"]
#: What happens to a document that is broken.
OnError: TypeAlias = Literal["fail", "skip", "replace"]
#: How a text file becomes documents; ``auto``: at ``<|endoftext|>`` lines if any, else one document.
TextSplit: TypeAlias = Literal["auto", "file", "lines", "separator"]
#: Which engine encodes: the reference library, tokpack's native one, or the native one if proved equal.
Engine: TypeAlias = Literal["auto", "reference", "native"]

# tokenizers


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


# sources


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How to read documents; a source uses the fields that concern it."""

    text_field: str = "text"  # dotted for nested objects: "meta.body"
    #: Instead of a text, a document is the JSON object of these fields; one without the first is a problem.
    record_fields: tuple[str, ...] = ()
    split: TextSplit = "auto"
    separator: str = "<|endoftext|>"
    on_error: OnError = "fail"
    batch_bytes: int = 1 << 20  # target size of one TextBatch
    max_document_bytes: int = 1 << 26  # a longer document is a problem, never an allocation


class Slice(NamedTuple):
    """A part of one input that can be read on its own: the grain of parallel work.

    ``start`` and ``stop`` are in the source's own coordinate (bytes of a text file, row groups of a Parquet
    file); documents that *begin* in the range belong to it. ``byte_start`` and ``byte_stop`` are the file's
    bytes accounted to this slice; the slices of a file share out all its bytes, for progress and digests.
    """

    path: str
    start: int
    stop: int
    byte_start: int
    byte_stop: int


class Problem(NamedTuple):
    """A document that was not encoded as it stood."""

    reason: str  # a short fixed word: "invalid-utf8", "bad-json", "missing-field", "empty", …
    path: str
    position: int  # where it begins, in bytes (text) or rows (columnar), of the decompressed file
    detail: str
    action: Literal["skipped", "replaced"]


class SourceBatch(NamedTuple):
    """Documents in order, with what went wrong between them.

    ``positions`` is int64 of shape (documents,), in the unit of `Problem.position`. Skipped documents are in
    ``problems`` only; replaced ones are in ``texts`` as well. Empty documents are ordinary documents here.
    """

    texts: TextBatch
    positions: NDArray[np.int64]
    problems: tuple[Problem, ...] = ()


class Source(Protocol):
    """Documents out of one kind of input. Picklable; pure: the same slice gives the same documents.

    A source whose record claims schemes has ``resolve(model) -> Sequence[str]``, which returns the files or
    URLs behind what follows ``scheme:``, in order.
    """

    def plan(self, path: str, *, slice_bytes: int) -> Sequence[Slice]:
        """Cut one input into slices of about ``slice_bytes``, a pure function of its content and options."""
        ...

    def describe(self, path: str) -> str:
        """Say in a few words how documents are found in ``path``: "one document per line"."""
        ...

    def read(self, part: Slice) -> Iterator[SourceBatch]:
        """Yield the documents of one slice in batches of about ``options.batch_bytes``.

        Raises:
            DocumentError: a document is broken and ``on_error`` is ``fail``; names file and position.
            StorageError: the input cannot be read.
        """
        ...


# formats


class FormatWriter(Protocol):
    """Writes one shard into an open file. Names, checksums, renames and the manifest are the caller's."""

    def write(self, batch: TokenBatch) -> None:
        """Append documents. ``batch.tokens`` has the dtype of the shard already."""
        ...

    def close(self) -> None:
        """Complete the file's content; the file itself stays open and is the caller's."""
        ...


class IndexWriter(Protocol):
    """Writes the document boundaries of one shard into an open file of its own."""

    def write(self, lengths: NDArray[np.int64]) -> None:
        """Append documents of so many tokens each."""
        ...

    def close(self) -> None:
        """Complete the file's content; the file itself stays open and is the caller's."""
        ...


class FormatReader(Protocol):
    """Random access to the tokens of one shard. Safe from several threads.

    A format that holds documents also has ``offsets`` (int64, documents + 1) and, for further per-token
    columns, ``column(name, start, stop)``. One whose shard is several arrays has ``gather(starts, out)`` like
    `TokenStore`; all others are gathered from the view that ``read(0, len(reader))`` gives.
    """

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage dtype, uint16 or uint32."""
        ...

    def __len__(self) -> int:
        """Tokens in the shard."""
        ...

    def read(self, start: int, stop: int) -> TokenArray:
        """Return tokens [start, stop), as a view wherever the format allows."""
        ...

    def close(self) -> None:
        """Release the file; views handed out earlier stay valid."""
        ...


class TokenStore(Protocol):
    """One split of a dataset as one axis of tokens, whatever its shards. Safe from several threads.

    `tokpack.open_dataset(DIR)["train"]` is one; tests and raw arrays use `tokpack.dataset.store.ArrayStore`.
    """

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage dtype, uint16 or uint32."""
        ...

    @property
    def vocab_size(self) -> int:
        """Largest id + 1 of the tokenizer that wrote the tokens."""
        ...

    @property
    def num_documents(self) -> int:
        """Documents in the split; known without reading ``offsets``."""
        ...

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Document boundaries, int64 of shape (documents + 1,); loaded on first use."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identity of documents and tokens (the logical digest), independent of format and sharding."""
        ...

    @property
    def tokenizer_fingerprint(self) -> str:
        """Identity of the tokenizer that wrote the tokens; stores are mixed only where it is equal."""
        ...

    @property
    def memory_mapped(self) -> bool:
        """Whether `read` and `gather` reach any position at the cost of its own pages."""
        ...

    def __len__(self) -> int:
        """Tokens in the split."""
        ...

    def read(self, start: int, stop: int) -> TokenArray:
        """Return tokens [start, stop): a view inside a memory-mapped shard, a copy across shards."""
        ...

    def gather(self, starts: NDArray[np.int64], out: TokenArray) -> None:
        """Fill ``out`` (rows, length), of the store's dtype, with tokens [starts[i], starts[i] + length)."""
        ...


# samplers


@dataclass(frozen=True, slots=True)
class SamplerOptions:
    """How to cut rows. ``options`` holds the choices that `SamplerSpec.options` announces, by name.

    Values are as the command line gives them (``"512"``, ``"exact"``) or as Python has them (512, True);
    `tokpack.samplers.options` reads both.
    """

    seq_len: int
    seed: int = 0
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)


class Span(NamedTuple):
    """Tokens [start, stop) of a split: where one piece of a row comes from."""

    store: TokenStore
    start: int
    stop: int


class Sampler(Protocol):
    """Rows of one split, each a pure function of its number: no cursor, no generator.

    Rows are numbered from 0 without end. An epoch is a run of rows in which everything that the sampler
    shows is shown once; where a sampler draws at random, it is as many rows as an exact epoch has.
    Safe from several threads, and picklable wherever its store is.
    """

    @property
    def seq_len(self) -> int:
        """Tokens that a model sees per row; `fill` writes one more."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage dtype of the tokens, uint16 or uint32."""
        ...

    @property
    def vocab_size(self) -> int:
        """Largest id + 1 that a row may hold."""
        ...

    @property
    def memory_mapped(self) -> bool:
        """Whether filling a row costs no more than its own tokens."""
        ...

    @property
    def segmented(self) -> bool:
        """Whether `fill` writes ``segment_ids`` too: rows of several documents, or with padding."""
        ...

    @property
    def identity(self) -> Mapping[str, str | int]:
        """Everything that decides the rows, by name; two samplers with equal identity give equal rows.

        Holds ``sampler`` (name and version of the algorithm, such as ``random-block/1``), ``seq_len``,
        ``seed``, ``dataset`` and ``tokenizer`` (fingerprints) and the sampler's own options. A loader
        stores it with its state and names each item that differs when it resumes.
        """
        ...

    def rows_before(self, epoch: int) -> int:
        """Return the number of the first row of ``epoch``; epochs count from 0."""
        ...

    def fill(self, rows: NDArray[np.int64], out: Batch) -> None:
        """Write the rows with these numbers, in this order, over all of ``out``."""
        ...

    def trace(self, row: int) -> tuple[Span, ...]:
        """Return where the tokens of one row come from, from left to right; padding has no origin."""
        ...


# executors

Unit = TypeVar("Unit")
Result = TypeVar("Result")


class Executor(Protocol):
    """Runs units of work. Results may arrive in any order; only small records travel."""

    def run(self, work: Callable[[Unit], Result], units: Iterable[Unit]) -> Iterator[Result]:
        """Yield ``work(unit)`` for every unit as each finishes; the first failure is raised."""
        ...

    def close(self) -> None:
        """Stop all workers, finished or not."""
        ...


# trackers


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a tracker is told when training begins.

    ``settings`` is the run's whole configuration and ``facts`` what was found out about it (parameters,
    device, kernel), both JSON-ready. ``step`` is where the run goes on: 0, or the step it resumes from.
    """

    name: str
    directory: Path
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    step: int
    max_iters: int


class Tracker(Protocol):
    """A place where training metrics go. Called from one thread, on rank 0 only."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take numbers of one step: ``loss``, ``lr``, ``tokens_per_s``, ``validation_loss``, …"""
        ...

    def text(self, step: int, kind: str, text: str) -> None:
        """Take words: a ``sample`` of the model, or a ``note`` such as a spike and its documents."""
        ...

    def close(self) -> None:
        """Write out everything; the run is over, for now or for good."""
        ...
