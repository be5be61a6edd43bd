"""Who a tokenizer is: what it is made of, what runs it, and what it does with the probe set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from typing import Protocol

import numpy as np

from tokpack.batches import TextBatch, TokenBatch
from tokpack.protocols import Special, Tokenizer
from tokpack.tokenizers.probe_texts import PROBE_VERSION, probe_texts

__all__ = ["Encoder", "TokenizerIdentity", "identify", "prove_equal"]

# Special tokens are part of the probe set, so it is encoded both ways.
_POLICIES: tuple[Special, ...] = ("text", "parse")


class Encoder(Protocol):
    """What a `Tokenizer` and a `NativeEngine` have in common."""

    def encode_batch(self, texts: TextBatch, *, special: Special = "text") -> TokenBatch:
        """Encode each document on its own, adding nothing."""
        ...


@dataclass(frozen=True, slots=True)
class TokenizerIdentity:
    """Identity of a tokenizer.

    ``content`` is its `content_digest`; ``engine`` and ``unicode`` name the code and the Unicode tables that
    encode, for people; ``probe`` is what came out: ``v1:`` and the SHA-256 of the probe set's ids.
    """

    content: str
    engine: str
    unicode: str
    probe: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over all four."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def same_ids(self, other: TokenizerIdentity) -> bool:
        """Whether both give the same ids, as far as can be known, whatever engine runs them."""
        return (self.content, self.probe) == (other.content, other.probe)


def identify(tokenizer: Tokenizer) -> TokenizerIdentity:
    """Encode the probe set and return who ``tokenizer`` is.

    A backend that knows the version of its Unicode tables says so in an attribute ``unicode_version``.
    """
    digest = hashlib.sha256()
    for batch in _answers(tokenizer, _probe_batch()):
        digest.update(batch.offsets.astype("<i8").tobytes())
        digest.update(batch.tokens.astype("<u4").tobytes())
    return TokenizerIdentity(
        content=tokenizer.content_digest,
        engine=tokenizer.engine,
        unicode=str(getattr(tokenizer, "unicode_version", "unknown")),
        probe=f"v{PROBE_VERSION}:{digest.hexdigest()}",
    )


def prove_equal(reference: Tokenizer, candidate: Encoder) -> bool:
    """Whether ``candidate`` may encode in place of ``reference``.

    It may if it gives the same ids for the probe set and for the special tokens of ``reference``, both with
    special tokens as text and parsed.
    """
    specials = "".join(reference.special_tokens)
    spelled = TextBatch.from_texts([*reference.special_tokens, specials, f"a {specials} b"])
    return all(
        np.array_equal(ours.offsets, theirs.offsets) and np.array_equal(ours.tokens, theirs.tokens)
        for texts in (_probe_batch(), spelled)
        for ours, theirs in zip(_answers(reference, texts), _answers(candidate, texts), strict=True)
    )


def _answers(encoder: Encoder, texts: TextBatch) -> Iterator[TokenBatch]:
    return (encoder.encode_batch(texts, special=special) for special in _POLICIES)


@cache
def _probe_batch() -> TextBatch:
    return TextBatch.from_texts(probe_texts())
