"""What a source is: documents out of one kind of input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import TextBatch

#: What happens to a document that is broken.
OnError: TypeAlias = Literal["fail", "skip", "replace"]
#: How a text file becomes documents; ``auto``: at ``<|endoftext|>`` lines if any, else one document.
TextSplit: TypeAlias = Literal["auto", "file", "lines", "separator"]


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
