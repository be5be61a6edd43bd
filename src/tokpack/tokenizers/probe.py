"""Who a tokenizer is: what it is made of, what runs it, and what it does with the probe set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Protocol

from tokpack.batches import TextBatch, TokenBatch
from tokpack.protocols import Special, Tokenizer
from tokpack.tokenizers.probe_texts import PROBE_VERSION, probe_texts

__all__ = ["Encoder", "TokenizerIdentity", "digest_answers", "identify", "probe_digest", "unicode_version"]

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
    """Encode the probe set and return who ``tokenizer`` is."""
    return TokenizerIdentity(
        content=tokenizer.content_digest,
        engine=tokenizer.engine,
        unicode=unicode_version(tokenizer),
        probe=f"v{PROBE_VERSION}:{_digest(tokenizer, _probe_batch())}",
    )


def unicode_version(tokenizer: Tokenizer) -> str:
    """Return the version of the Unicode tables that a backend names in an attribute ``unicode_version``."""
    return str(getattr(tokenizer, "unicode_version", "unknown"))


def digest_answers(encoder: Encoder, special_tokens: Iterable[str]) -> str:
    """Return a SHA-256 (hex) of the ids for the probe set, and for texts that spell ``special_tokens``.

    Encoders of equal digests give the same ids, as far as the probe set can tell.
    """
    specials = "".join(special_tokens)
    spelled = TextBatch.from_texts([*special_tokens, specials, f"a {specials} b"])
    return _digest(encoder, _probe_batch(), spelled)


def probe_digest() -> str:
    """Return a SHA-256 (hex) of the probe set itself."""
    texts = _probe_batch()
    return hashlib.sha256(texts.offsets.astype("<i8").tobytes() + texts.data.tobytes()).hexdigest()


def _digest(encoder: Encoder, *probes: TextBatch) -> str:
    digest = hashlib.sha256()
    for texts in probes:
        for special in _POLICIES:
            batch = encoder.encode_batch(texts, special=special)
            digest.update(batch.offsets.astype("<i8").tobytes())
            digest.update(batch.tokens.astype("<u4").tobytes())
    return digest.hexdigest()


@cache
def _probe_batch() -> TextBatch:
    return TextBatch.from_texts(probe_texts())
