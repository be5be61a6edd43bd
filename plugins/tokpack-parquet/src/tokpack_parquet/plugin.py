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
        "parquet",
        "one row per document, for pandas, DuckDB, polars and datasets",
        suffix=".parquet",
        writer="tokpack_parquet.writer:ParquetWriter",
        reader="tokpack_parquet.reader:ParquetReader",
        default_shard_bytes=512 << 20,
        columns=("attention_mask", "loss_mask", "segment_ids"),
        options=("compression", "compression_level", "encoding", "ids_type", "row_group_tokens"),
    )


@hookimpl
def tokpack_register_sources() -> Iterable[SourceSpec]:
    """Announce the source."""
    yield SourceSpec(
        "parquet",
        "a text column of Parquet files",
        suffixes=(".parquet", ".pq"),
        open="tokpack_parquet.source:open_source",
        records=True,
    )
