"""What a tiktoken tokenizer is made of, apart from where it was found."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tokpack.errors import DamagedError

__all__ = ["Definition"]

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Definition:
    """A split pattern, ranks and special tokens; ``origin`` names where they come from, for messages.

    ``ranks`` maps token bytes to ids, and the lower id merges first. ``bos_token`` and so on name members of
    ``special_tokens``.
    """

    origin: str
    pattern: str
    ranks: Mapping[bytes, int]
    special_tokens: Mapping[str, int]
    bos_token: str | None = None
    eos_token: str | None = END_OF_TEXT
    pad_token: str | None = None

    def check(self) -> None:
        """Raise DamagedError for what would make tiktoken panic or lose text."""
        missing = [byte for byte in range(256) if bytes([byte]) not in self.ranks]
        if missing:
            raise DamagedError(
                f"{self.origin}: {len(missing)} of the 256 single bytes have no rank, the first is "
                f"0x{missing[0]:02x}; such a tokenizer cannot encode every text"
            )
        ids = [*self.ranks.values(), *self.special_tokens.values()]
        if len(set(ids)) < len(ids):
            twice = next(token_id for token_id, count in Counter(ids).items() if count > 1)
            raise DamagedError(f"{self.origin}: id {twice:,} belongs to two tokens; fetch the file again")
        if min(ids) < 0 or max(ids) >= 2**32 - 1:
            raise DamagedError(f"{self.origin}: ids must lie between 0 and 2**32 - 2")

    def special_id(self, token: str | None) -> int | None:
        """Return the id of a special token, None where there is none."""
        return None if token is None else self.special_tokens.get(token)

    @property
    def vocab_size(self) -> int:
        """Largest id + 1."""
        return max(max(self.ranks.values()), max(self.special_tokens.values(), default=0)) + 1

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the content, whatever its origin: tokens by id, pattern, special tokens."""
        digest = hashlib.sha256()
        settings = {
            "pattern": self.pattern,
            "special_tokens": dict(self.special_tokens),
            "bos_id": self.special_id(self.bos_token),
            "eos_id": self.special_id(self.eos_token),
            "pad_id": self.special_id(self.pad_token),
        }
        digest.update(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode())
        lines = [b"\n%d %d %b" % (rank, len(token), token) for token, rank in self.ranks.items()]
        order = np.argsort(np.fromiter(self.ranks.values(), np.int64, len(lines)), kind="stable")
        digest.update(b"".join(map(lines.__getitem__, order.tolist())))
        return digest.hexdigest()
