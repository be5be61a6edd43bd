"""One fault for every rule of `TokenizerConformance`, each put into the byte tokenizer."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tokpack.batches import TextBatch, TokenBatch, offsets_from_lengths
from tokpack.testing import TokenizerConformance
from tokpack.tokenizers.boundaries import with_boundaries
from tokpack.tokenizers.byte import ByteTokenizer


class Suite(TokenizerConformance):
    reference = "byte"
    backend: type = ByteTokenizer

    @pytest.fixture
    def tokenizer(self):
        return self.backend()

    def reopen(self, directory):
        return self.backend()


class HealthyTokenizer(Suite):
    pass


class MutantOffsetsOf32Bits(Suite):
    kills = "test_layout"

    class backend(ByteTokenizer):  # noqa: N801
        def encode_batch(self, texts, *, special="text"):
            batch = super().encode_batch(texts, special=special)
            return TokenBatch(batch.tokens, batch.offsets.astype(np.int32))


class MutantAddsEos(Suite):
    kills = "test_nothing_is_added"

    class backend(ByteTokenizer):  # noqa: N801
        def encode_batch(self, texts, *, special="text"):
            return with_boundaries(super().encode_batch(texts, special=special), eos_id=256)


class MutantSmallVocabulary(Suite):
    kills = "test_ids_are_below_vocab_size"

    class backend(ByteTokenizer):  # noqa: N801
        vocab_size = 200


class MutantEosOutsideTheVocabulary(Suite):
    kills = "test_ids_are_below_vocab_size"

    class backend(ByteTokenizer):  # noqa: N801
        eos_id = 257


class MutantSeparatesDocuments(Suite):
    kills = "test_a_batch_is_its_documents"

    class backend(ByteTokenizer):  # noqa: N801
        def encode_batch(self, texts, *, special="text"):
            documents = [list(text.encode()) for text in texts]
            for document in documents[:-1]:
                document.append(32)
            flat = np.array([token for document in documents for token in document], dtype=np.uint16)
            return TokenBatch(flat, offsets_from_lengths(map(len, documents), len(documents)))


class MutantReadsTheWholeMemory(Suite):
    kills = "test_texts_may_be_a_view"

    class backend(ByteTokenizer):  # noqa: N801
        def encode_batch(self, texts, *, special="text"):
            base = texts.data.base
            memory = base if isinstance(base, np.ndarray) else texts.data
            return super().encode_batch(TextBatch(memory[: texts.nbytes], texts.offsets), special=special)


class MutantScribbles(Suite):
    kills = "test_texts_may_be_a_view"

    class backend(ByteTokenizer):  # noqa: N801
        def encode_batch(self, texts, *, special="text"):
            batch = super().encode_batch(texts, special=special)
            texts.data[:1] = 0
            return batch


class Sharing(ByteTokenizer):
    texts = None

    def encode_batch(self, texts, *, special="text"):
        type(self).calls = getattr(type(self), "calls", 0) + 1
        mine = type(self).calls
        time.sleep(0.01)
        batch = super().encode_batch(texts, special=special)
        return TokenBatch(batch.tokens + (mine != type(self).calls), batch.offsets)


class MutantSharesABuffer(Suite):
    kills = "test_threads_agree"
    backend = Sharing


class Unlike(ByteTokenizer):
    def __reduce__(self):
        return (Shouting, ())


class Shouting(ByteTokenizer):
    def encode_batch(self, texts, *, special="text"):
        batch = super().encode_batch(texts, special=special)
        return TokenBatch(batch.tokens + 1, batch.offsets)


class MutantPicklesAnother(Suite):
    kills = "test_it_pickles"
    backend = Unlike


class MutantForgetsWhenSaved(Suite):
    kills = "test_it_saves"

    def reopen(self, directory):
        return Shouting()


class MutantSavesTheTime(Suite):
    kills = "test_it_saves"

    class backend(ByteTokenizer):  # noqa: N801
        def save(self, directory):
            (directory / "byte.txt").write_text(str(time.perf_counter_ns()))


class MutantHasNoDigest(Suite):
    kills = "test_names_of_content_and_engine"

    class backend(ByteTokenizer):  # noqa: N801
        content_digest = "gpt2"


class MutantHasNoVersion(Suite):
    kills = "test_names_of_content_and_engine"

    class backend(ByteTokenizer):  # noqa: N801
        engine = "bytes"


class MutantInjects(Suite):
    kills = "test_special_tokens_are_text"

    class backend(ByteTokenizer):  # noqa: N801
        def encode_batch(self, texts, *, special="text"):
            return super().encode_batch(texts, special="parse")


class MutantNeverParses(Suite):
    kills = "test_special_tokens_are_parsed_on_demand"

    class backend(ByteTokenizer):  # noqa: N801
        def encode_batch(self, texts, *, special="text"):
            return super().encode_batch(texts)


class MutantNeverRefuses(Suite):
    kills = "test_special_tokens_are_refused_on_demand"
    backend = MutantNeverParses.backend


class MutantLowers(Suite):
    kills = "test_claim_lossless"

    class backend(ByteTokenizer):  # noqa: N801
        def decode_bytes(self, tokens):
            return super().decode_bytes(tokens).lower()


class MutantDecodesAnything(Suite):
    kills = "test_unknown_ids_are_refused"

    class backend(ByteTokenizer):  # noqa: N801
        def decode_bytes(self, tokens):
            return super().decode_bytes([token for token in tokens if token < 257])


class MutantCrashesOnRuns(Suite):
    kills = "test_long_runs"

    class backend(ByteTokenizer):  # noqa: N801
        def encode_batch(self, texts, *, special="text"):
            if texts.nbytes > 50_000:
                raise RecursionError("maximum recursion depth exceeded")
            return super().encode_batch(texts, special=special)
