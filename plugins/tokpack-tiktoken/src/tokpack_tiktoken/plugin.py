"""What this distribution announces to tokpack."""

from __future__ import annotations

from collections.abc import Iterable

from tokpack.hookspecs import hookimpl
from tokpack.specs import TokenizerSpec

TOKPACK_HOOK_VERSION = 1


@hookimpl
def tokpack_register_tokenizers() -> Iterable[TokenizerSpec]:
    """Announce ``tiktoken:``."""
    yield TokenizerSpec(
        "tiktoken",
        "OpenAI's encodings by name (gpt2, cl100k_base), by model (gpt-4o), or from a ranks file",
        open="tokpack_tiktoken.tokenizer:open_tokenizer",
    )
