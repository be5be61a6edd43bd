"""Ids of OpenAI's encodings on real texts: the recorded answers of `shared/data`."""

from __future__ import annotations

import subprocess

import pytest
import tiktoken

from tokpack.protocols import TokenizerOptions
from tokpack.testing.expected import assert_expected, expected_answers, expected_edges, shared_texts
from tokpack.testing.shared import shared_data
from tokpack.tokenizers.boundaries import with_boundaries
from tokpack_tiktoken.tokenizer import open_tokenizer

ENCODINGS = ["gpt2", "cl100k_base", "o200k_base"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    subprocess.run([shared_data() / "make-tiktoken-cache", tmp_path], check=True)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("engine", ["reference", "auto"])
def test_every_text_in_every_mode(name, engine):
    tokenizer = open_tokenizer(name, TokenizerOptions(engine=engine))
    if engine == "auto" and tokenizer.engine.startswith("tiktoken"):
        pytest.skip("no native engine is installed")
    for text, answers in expected_answers(name).items():
        texts = shared_texts(text)
        ordinary = tokenizer.encode_batch(texts)
        assert_expected(ordinary, answers["ordinary"])
        special = tokenizer.encode_batch(texts, special="parse")
        assert_expected(special, answers.get("special", answers["ordinary"]))
        if "packed" in answers:
            assert_expected(with_boundaries(ordinary, eos_id=tokenizer.eos_id), answers["packed"])
        for document, source in zip(ordinary, texts, strict=True):
            assert tokenizer.decode_bytes(document) == source.encode()


@pytest.mark.parametrize("name", ENCODINGS)
def test_edge_documents_id_by_id(name):
    batch = open_tokenizer(name, TokenizerOptions(engine="reference")).encode_batch(shared_texts("edge"))
    for document, answer in zip(batch, expected_edges(name), strict=True):
        assert (document[:200].tolist(), len(document)) == (answer["ids"], answer["n"]), answer["id"]


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4", "gpt-2"])
def test_models_by_name(model):
    encoding = {"gpt-4o": "o200k_base", "gpt-4": "cl100k_base", "gpt-2": "gpt2"}[model]
    options = TokenizerOptions(engine="reference")
    assert open_tokenizer(model, options).content_digest == open_tokenizer(encoding, options).content_digest


def test_gpt2_and_r50k_base_are_one_tokenizer():
    options = TokenizerOptions(engine="reference")
    by_merges, by_ranks = open_tokenizer("gpt2", options), open_tokenizer("r50k_base", options)
    assert by_merges.content_digest == by_ranks.content_digest


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_saved_encoding_opens_without_its_name(name, tmp_path):
    options = TokenizerOptions(engine="reference")
    named = open_tokenizer(name, options)
    folder = tmp_path / "saved"
    folder.mkdir()
    named.save(folder)
    saved = open_tokenizer(str(folder), options)
    assert saved.content_digest == named.content_digest
    assert saved.eos_id == named.eos_id


def test_what_was_read_once_is_kept(tmp_path, monkeypatch):
    """The second time needs no file of tiktoken's, and a damaged entry is made again."""
    monkeypatch.setenv("TOKPACK_CACHE_DIR", str(tmp_path / "kept"))
    options = TokenizerOptions(engine="reference")
    first = open_tokenizer("gpt2", options)
    monkeypatch.setattr(tiktoken, "get_encoding", None)
    again = open_tokenizer("gpt-2", options)
    assert again.content_digest == first.content_digest
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
    first.save(tmp_path / "first")
    again.save(tmp_path / "again")
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    monkeypatch.undo()
    monkeypatch.setenv("TOKPACK_CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    [ranks] = tmp_path.glob("kept/tiktoken/*/ranks.tiktoken")
    genuine = ranks.read_bytes()
    ranks.write_bytes(genuine.replace(b" 300\n", b" 60000\n"))
    assert open_tokenizer("gpt2", options).content_digest == first.content_digest
    assert ranks.read_bytes() == genuine
