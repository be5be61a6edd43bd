"""References to tokenizers: ``backend:model``, such as ``tiktoken:gpt2`` or ``bpe:./tokenizer.json``."""

from __future__ import annotations

from dataclasses import dataclass

from tokpack.errors import UsageError

__all__ = ["Reference"]


@dataclass(frozen=True, slots=True)
class Reference:
    """A backend and the model it is to open; ``model`` may be empty (``byte``)."""

    backend: str
    model: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Split ``text`` at its first colon.

        Raises:
            UsageError: no backend stands before the colon, or it is a single letter (a Windows drive).
        """
        backend, _, model = text.partition(":")
        if len(backend) < 2:
            raise UsageError(
                f"{text!r} is no tokenizer reference; write backend:model, such as tiktoken:gpt2, "
                "hf:./tokenizer.json or bpe:./tok"
            )
        return cls(backend, model)

    def __str__(self) -> str:
        return f"{self.backend}:{self.model}" if self.model else self.backend
