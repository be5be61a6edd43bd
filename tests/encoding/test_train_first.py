"""`tokpack encode --vocab-size`: one command trains the tokenizer, if it is missing, and encodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("tokpack_bpe")


def test_one_command_does_a_whole_preparation(tokpack, tmp_path: Path) -> None:
    train = [f"the cat number {number} sat on the mat, the mat" for number in range(300)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in train))
    (tmp_path / "val.txt").write_text("the dog sat on the cat")
    line = [
        "encode",
        "train.jsonl",
        "--validation",
        "val.txt",
        "--tokenizer",
        "bpe:./tok",
        "--vocab-size",
        "300",
    ]
    done = tokpack(*line)
    assert done.returncode == 0, done.stderr
    assert "trained tok: 300 ids" in done.stderr
    info = json.loads(tokpack("info", "--json").stdout)
    assert info["tokenizer"]["vocab_size"] == 300
    assert set(info["splits"]) == {"train", "validation"}
    assert tokpack("decode", "--split", "validation", "--raw").stdout == "the dog sat on the cat<|endoftext|>"
    done = tokpack(*line, "--overwrite")
    assert done.returncode == 0
    assert "training skipped" in done.stderr
    assert tokpack("verify").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "-t", "bpe:./tok"], "cannot be read twice"),
        (["a.txt", "-t", "byte"], "names no folder"),
        (["a.txt", "-t", "tiktoken:gpt2"], "train"),
    ],
)
def test_what_cannot_be_trained_is_said(tokpack, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "a.txt").write_text("some text")
    done = tokpack("encode", *arguments, "--vocab-size", "300")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt"]
