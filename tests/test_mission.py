"""The lines of the mission, word for word, in an empty folder; and real texts, byte for byte."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tokpack
from tokpack.testing import shared_data


@pytest.fixture(scope="module")
def tiktoken_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiktoken")
    subprocess.run([str(shared_data() / "make-tiktoken-cache"), str(folder)], check=True)
    return str(folder)


def test_the_four_lines(request, tmp_path: Path, tiktoken_cache: str) -> None:
    run = request.getfixturevalue("tokpack")
    (tmp_path / "data").mkdir()
    text = (shared_data() / "text" / "tinystories_2MiB.txt").read_bytes()
    (tmp_path / "data" / "stories.txt").write_bytes(text)
    line = "tokpack encode --tokenizer tiktoken:gpt2 --format bin"
    done = run(*line.split()[1:], TIKTOKEN_CACHE_DIR=tiktoken_cache)
    assert done.returncode == 0, done.stderr
    data = np.memmap(tmp_path / "tokenized" / "train.bin", dtype=np.uint16, mode="r")
    expected = json.loads((shared_data() / "expected.json").read_text())
    answer = expected["tokenizers"]["gpt2"]["tinystories_2MiB"]["packed"]
    assert hashlib.sha256(data.tobytes()).hexdigest() == answer["sha256"]
    done = run(*["tokpack", "verify", "./tokenized"][1:])
    assert done.returncode == 0, done.stdout + done.stderr
    line = "tokpack train --sampler random-block"
    done = run(*line.split()[1:], "--max-iters", "2", "--seq-len", "32", "--batch-size", "2", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((tmp_path / "runs").iterdir())) == 1


def settings(rule: str) -> dict[str, object] | None:
    """How the reference read a text, as options of `encode`; None where it is no source of tokpack's."""
    kind, _, field = rule.partition(":")
    if kind in ("jsonl", "parquet", "arrow"):
        return {"text_field": field, "keep_empty": True}
    return {
        "text": {"input_format": "text", "text_split": "file"},
        "lines": {"input_format": "text", "text_split": "lines", "keep_empty": True},
        "endoftext": {},
    }.get(kind)


@pytest.mark.parametrize("tokenizer", ["gpt2", "cl100k_base", "o200k_base"])
def test_real_texts_give_the_bytes_of_the_reference(
    tmp_path: Path, tokenizer: str, tiktoken_cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", tiktoken_cache)
    answers = json.loads((shared_data() / "expected.json").read_text())["tokenizers"][tokenizer]
    compared = 0
    for entry in json.loads((shared_data() / "manifest.json").read_text())["texts"]:
        options = settings(entry["rule"])
        if options is None:
            continue
        dataset = tokpack.encode(
            shared_data() / entry["file"],
            tmp_path / entry["name"],
            tokenizer=f"tiktoken:{tokenizer}",
            on_error="replace",
            **options,
        )
        answer = answers[entry["name"]]["packed"]
        content = (dataset.path / "train.bin").read_bytes()
        assert hashlib.sha256(content).hexdigest() == answer["sha256"], entry["name"]
        assert dataset["train"].dtype.name == answer["dtype"]
        compared += 1
    assert compared > 25


def test_a_dtype_too_narrow_for_the_vocabulary_is_refused(
    request: pytest.FixtureRequest, tmp_path: Path, tiktoken_cache: str
) -> None:
    run = request.getfixturevalue("tokpack")
    (tmp_path / "a.txt").write_text("hello")
    options = ["-t", "tiktoken:cl100k_base", "--dtype", "uint16"]
    done = run("encode", "a.txt", *options, TIKTOKEN_CACHE_DIR=tiktoken_cache)
    assert done.returncode == 2
    assert "uint16 holds ids up to 65,535, but the vocabulary has 100,277 ids" in done.stderr
    assert "--dtype uint32" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
