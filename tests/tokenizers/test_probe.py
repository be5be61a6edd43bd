from __future__ import annotations

import dataclasses
import hashlib

from tokpack.batches import TokenBatch
from tokpack.tokenizers.byte import ByteTokenizer
from tokpack.tokenizers.probe import digest_answers, identify
from tokpack.tokenizers.probe_texts import PROBE_COUNT, PROBE_VERSION, probe_texts

# Fingerprints in manifests depend on it: whoever changes a text raises PROBE_VERSION and adds a digest.
FROZEN = {1: "b49aecea693e661d5d5bec57d65e33858f0a492474f5e11474003e89d227b290"}


def test_the_probe_set_is_frozen():
    texts = probe_texts()
    assert len(texts) == PROBE_COUNT
    digest = hashlib.sha256("\0\0".join(texts).encode()).hexdigest()
    assert digest == FROZEN[PROBE_VERSION]


class Shifted(ByteTokenizer):
    """Wrong on one rare character only."""

    def encode_batch(self, texts, *, special="text"):
        batch = super().encode_batch(texts, special=special)
        kawi = "\U00011f04".encode()[-1]
        tokens = batch.tokens.copy()
        tokens[tokens == kawi] = 0
        return TokenBatch(tokens, batch.offsets)


class Lenient(ByteTokenizer):
    """Forgets what special tokens are."""

    def encode_batch(self, texts, *, special="text"):
        return super().encode_batch(texts)


class Other(ByteTokenizer):
    @property
    def engine(self):
        return "another engine 2"

    @property
    def unicode_version(self):
        return "16.0"


def test_identity():
    ours = identify(ByteTokenizer())
    assert ours == identify(ByteTokenizer())
    assert ours.unicode == "unknown"
    assert ours.probe.startswith(f"v{PROBE_VERSION}:")
    assert len(ours.fingerprint) == 64
    elsewhere = identify(Other())
    assert elsewhere.unicode == "16.0"
    assert elsewhere.same_ids(ours)
    assert elsewhere.fingerprint != ours.fingerprint


def test_each_part_changes_the_fingerprint():
    ours = identify(ByteTokenizer())
    for field in dataclasses.fields(ours):
        changed = dataclasses.replace(ours, **{field.name: "x"})
        assert changed.fingerprint != ours.fingerprint
        assert changed.same_ids(ours) == (field.name in ("engine", "unicode"))


def prove_equal(reference, candidate):
    tokens = reference.special_tokens
    return digest_answers(reference, tokens) == digest_answers(candidate, tokens)


def test_a_fast_path_must_prove_itself():
    assert prove_equal(ByteTokenizer(), Other())
    assert not prove_equal(ByteTokenizer(), Shifted())
    assert not prove_equal(ByteTokenizer(), Lenient())
    assert identify(Shifted()).probe != identify(ByteTokenizer()).probe
    assert identify(Lenient()).probe != identify(ByteTokenizer()).probe


def test_special_tokens_outside_the_probe_set_are_proved_too():
    class Reference(ByteTokenizer):
        @property
        def special_tokens(self):
            return {"<|endoftext|>": 256, "<|unheard of|>": 257}

        def encode_batch(self, texts, *, special="text"):
            batch = super().encode_batch(texts, special=special)
            heard = special == "parse" and any("<|unheard of|>" in text for text in texts)
            return TokenBatch(batch.tokens + heard, batch.offsets)

    assert prove_equal(Reference(), Reference())
    assert not prove_equal(Reference(), ByteTokenizer())
