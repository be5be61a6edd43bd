"""What this distribution announces to tokpack."""

from __future__ import annotations

from collections.abc import Iterable

from tokpack.hookspecs import hookimpl
from tokpack.specs import TokenizerSpec

TOKPACK_HOOK_VERSION = 1


@hookimpl
def tokpack_register_tokenizers() -> Iterable[TokenizerSpec]:
    """Announce ``sentencepiece:``."""
    yield TokenizerSpec(
        "sentencepiece",
        "a SentencePiece .model file, BPE or Unigram",
        open="tokpack_sentencepiece.tokenizer:open_tokenizer",
        train="tokpack_sentencepiece.train:train_tokenizer",
        lossless=False,  # most models normalize white space, many letters too
    )
