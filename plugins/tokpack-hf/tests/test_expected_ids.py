"""Ids of real tokenizers on real texts: the recorded answers of the tokenizers library."""

from __future__ import annotations

import pytest

from tokpack.protocols import TokenizerOptions
from tokpack.testing.expected import assert_expected, expected_answers, expected_edges, shared_texts
from tokpack.testing.shared import shared_data
from tokpack.tokenizers.rows import surround_batch
from tokpack_hf.tokenizer import open_tokenizer

FOLDERS = {
    "gpt2-hf": "gpt2",
    "bert-base-uncased": "bert-base-uncased",
    "gpt-neox-olmo": "gpt-neox-olmo",
    "torchtitan_2k": "torchtitan_2k",
}


def opened(name, engine="reference"):
    path = shared_data() / "tokenizers" / FOLDERS[name] / "tokenizer.json"
    return open_tokenizer(str(path), TokenizerOptions(engine=engine))


#: The library takes half a minute for the long texts, which every night is often enough.
LONG_BYTES = 300_000


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize(
    ("engine", "long"),
    [
        ("reference", False),
        pytest.param("reference", True, marks=pytest.mark.nightly),
        ("auto", False),
        ("auto", True),
    ],
)
def test_every_text_in_every_mode(name, engine, long):
    tokenizer = opened(name, engine)
    if engine == "auto" and tokenizer.engine.startswith("tokenizers"):
        pytest.skip("no native engine serves this one")
    for text, answers in expected_answers(name).items():
        texts = shared_texts(text)
        if (texts.nbytes > LONG_BYTES) != long:
            continue
        ordinary = tokenizer.encode_batch(texts)
        assert_expected(ordinary, answers["ordinary"])
        # Where a mode is left out its ids are the ordinary ones; long texts need not show that.
        if "special" in answers or texts.nbytes < 200_000:
            parsed = tokenizer.encode_batch(texts, special="parse")
            assert_expected(parsed, answers.get("special", answers["ordinary"]))
        prefix, suffix = tokenizer.template
        assert_expected(
            surround_batch(ordinary, prefix=prefix, suffix=suffix),
            answers.get("template", answers["ordinary"]),
        )
        if "packed" in answers:
            assert tokenizer.eos_id is not None
            assert_expected(surround_batch(ordinary, suffix=(tokenizer.eos_id,)), answers["packed"])
        if tokenizer.lossless:
            assert all(
                tokenizer.decode_bytes(document) == source.encode()
                for document, source in zip(ordinary, texts, strict=True)
            )


@pytest.mark.parametrize("name", FOLDERS)
def test_edge_documents_id_by_id(name):
    batch = opened(name).encode_batch(shared_texts("edge"))
    for document, answer in zip(batch, expected_edges(name), strict=True):
        assert (answer["id"], document[:200].tolist(), len(document)) == (
            answer["id"],
            answer["ids"],
            answer["n"],
        )
