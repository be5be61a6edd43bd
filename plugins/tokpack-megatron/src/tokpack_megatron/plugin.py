"""What this distribution announces to tokpack."""

from __future__ import annotations

from collections.abc import Iterable

from tokpack.hookspecs import hookimpl
from tokpack.specs import FormatSpec

TOKPACK_HOOK_VERSION = 1


@hookimpl
def tokpack_register_formats() -> Iterable[FormatSpec]:
    """Announce the formats."""
    yield FormatSpec(
        "megatron",
        "Megatron's indexed dataset: NAME.bin and NAME.idx",
        suffix=".bin",
        writer="tokpack_megatron.tokens:TokensWriter",
        reader="tokpack_megatron.tokens:TokensReader",
        memory_mapped=True,
        holds_documents=False,
        index_suffix=".idx",
        index_writer="tokpack_megatron.index:IndexWriter",
        index_reader="tokpack_megatron.index:read_offsets",
    )
    yield FormatSpec(
        "llmc",
        "llm.c and modded-nanogpt: a header of 256 integers, then tokens",
        suffix=".bin",
        writer="tokpack_megatron.llmc:LlmcWriter",
        reader="tokpack_megatron.llmc:LlmcReader",
        memory_mapped=True,
        holds_documents=False,
        # 10**8 tokens of two bytes, as llm.c cuts; its reader counts tokens in 32 signed bits.
        default_shard_bytes=200_000_000,
        options=("variant",),
    )
