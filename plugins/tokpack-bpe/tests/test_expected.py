"""Ids of real tokenizers on real texts: the recorded answers of `shared/data`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tokpack.protocols import TokenizerOptions
from tokpack.testing import shared_data
from tokpack.testing.expected import assert_expected, expected_answers, expected_edges, shared_texts
from tokpack.tokenizers.boundaries import with_boundaries
from tokpack_bpe.opening import open_tokenizer

TOKENIZERS = ["gpt2", "cl100k_base", "o200k_base", "gpt2-hf", "gpt-neox-olmo", "torchtitan_2k"]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_text_in_every_mode(name, ours):
    tokenizer = ours(name)
    for text, answers in expected_answers(name).items():
        texts = shared_texts(text)
        ordinary = tokenizer.encode_batch(texts)
        assert_expected(ordinary, answers["ordinary"])
        special = tokenizer.encode_batch(texts, special="parse", threads=2)
        assert_expected(special, answers.get("special", answers["ordinary"]))
        assert np.array_equal(tokenizer.count_tokens(texts), ordinary.lengths)
        if "packed" in answers:
            assert_expected(with_boundaries(ordinary, eos_id=tokenizer.eos_id), answers["packed"])
        if tokenizer.lossless:
            decoded = tokenizer.decode_batch(ordinary)
            assert np.array_equal(decoded.data, texts.data)
            assert np.array_equal(decoded.offsets, texts.offsets)
            assert tokenizer.decode_bytes(ordinary.tokens) == texts.data.tobytes()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_edge_documents_id_by_id(name, ours):
    batch = ours(name).encode_batch(shared_texts("edge"))
    for document, answer in zip(batch, expected_edges(name), strict=True):
        assert (document[:200].tolist(), len(document)) == (answer["ids"], answer["n"]), answer["id"]


def test_one_tokenizer_in_three_layouts(ours):
    layouts = [open_tokenizer(str(_gpt2(name)), TokenizerOptions()) for name in ("vocab.json", "merges.txt")]
    layouts += [ours("gpt2"), ours("gpt2-hf")]
    assert len({tokenizer.content_digest for tokenizer in layouts}) == 1
    assert len({tokenizer.content_digest for tokenizer in (*layouts, ours("cl100k_base"))}) == 2


def _gpt2(name: str) -> Path:
    return shared_data() / "tokenizers" / "gpt2" / name
