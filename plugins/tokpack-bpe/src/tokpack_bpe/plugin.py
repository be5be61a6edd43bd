"""What this distribution announces to tokpack."""

from __future__ import annotations

from collections.abc import Iterable

from tokpack.hookspecs import hookimpl
from tokpack.specs import TokenizerSpec

TOKPACK_HOOK_VERSION = 1


@hookimpl
def tokpack_register_tokenizers() -> Iterable[TokenizerSpec]:
    """Announce the native byte-level BPE backend."""
    yield TokenizerSpec(
        "bpe",
        "byte-level BPE by tokpack's native engine: our own, GPT-2, tiktoken and Hugging Face files",
        open="tokpack_bpe.opening:open_tokenizer",
        train="tokpack_bpe.train:train",
        accelerate="tokpack_bpe.opening:accelerate",
    )
