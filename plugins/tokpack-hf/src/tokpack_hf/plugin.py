"""What this distribution announces to tokpack."""

from __future__ import annotations

from collections.abc import Iterable

from tokpack.hookspecs import hookimpl
from tokpack.specs import TokenizerSpec

TOKPACK_HOOK_VERSION = 1


@hookimpl
def tokpack_register_tokenizers() -> Iterable[TokenizerSpec]:
    """Announce ``hf:``."""
    yield TokenizerSpec(
        "hf",
        "a tokenizer.json, a folder with one, or a model of the Hugging Face hub",
        open="tokpack_hf.tokenizer:open_tokenizer",
        lossless=False,  # a normalizer may change the text; HFTokenizer.lossless says it of one tokenizer
    )
