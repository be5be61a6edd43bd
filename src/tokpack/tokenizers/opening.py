"""Opening a tokenizer by its reference."""

from __future__ import annotations

from tokpack.plugins import Plugins, discover
from tokpack.protocols import Tokenizer, TokenizerOptions
from tokpack.references import Reference
from tokpack.specs import load

__all__ = ["open_tokenizer"]


def open_tokenizer(
    reference: str, *, options: TokenizerOptions | None = None, plugins: Plugins | None = None
) -> Tokenizer:
    """Open ``backend:model``, for example ``tiktoken:gpt2`` or ``bpe:./tok``.

    Raises:
        UsageError: not a reference, or the backend cannot open this model.
        UnknownPluginError: no such backend is installed.
    """
    parsed = Reference.parse(reference)
    spec = (plugins or discover()).tokenizers[parsed.backend]
    tokenizer: Tokenizer = load(spec.open)(parsed.model, options or TokenizerOptions())
    return tokenizer
