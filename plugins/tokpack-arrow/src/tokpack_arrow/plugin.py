"""What this distribution announces to tokpack."""

from __future__ import annotations

from collections.abc import Iterable

from tokpack.hookspecs import hookimpl
from tokpack.specs import FormatSpec, SourceSpec

TOKPACK_HOOK_VERSION = 1


@hookimpl
def tokpack_register_formats() -> Iterable[FormatSpec]:
    """Announce the format."""
    yield FormatSpec(
        "arrow",
        "Arrow IPC, memory-mapped: one row per document, rows are views",
        suffix=".arrow",
        writer="tokpack_arrow.writer:ArrowWriter",
        reader="tokpack_arrow.reader:ArrowReader",
        memory_mapped=True,
        columns=("attention_mask", "loss_mask", "segment_ids"),
        options=("batch_tokens",),
    )


@hookimpl
def tokpack_register_sources() -> Iterable[SourceSpec]:
    """Announce the sources."""
    yield SourceSpec(
        "arrow",
        "a text column of Arrow IPC files, streams and Feather files",
        suffixes=(".arrow", ".feather", ".ipc", ".arrows"),
        open="tokpack_arrow.source:open_source",
        records=True,
    )
    yield SourceSpec(
        "hf-datasets",
        "a Hugging Face dataset: a saved folder or a name on the hub",
        suffixes=(),
        open="tokpack_arrow.hub:open_source",
        schemes=("hf-datasets",),
        records=True,
    )
