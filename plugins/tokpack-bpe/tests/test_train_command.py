"""`tokpack train-tokenizer` as people run it: a process of its own."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
import sys
import time

import pytest
from tokenizers import Tokenizer

SYLLABLES = ("ka", "lo", "mi", "ter", "son", "u", "ing", "dra", "vel", "ö", "shi", "po")
WORDS = ["".join(random.Random(i).choices(SYLLABLES, k=1 + i % 4)) for i in range(200)]


def run(*arguments, cwd, **settings):
    command = [sys.executable, "-c", "from tokpack.cli.app import main; main()", "train-tokenizer"]
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False, **settings
    )


@pytest.fixture
def folder(tmp_path):
    rng = random.Random(1)
    stories = [" ".join(rng.choices(WORDS, k=200)) for _ in range(30)]
    (tmp_path / "train.txt").write_text("\n<|endoftext|>\n".join(stories))
    (tmp_path / "val.txt").write_text(" ".join(WORDS[:40]))
    return tmp_path


def test_trains_saves_and_reports(folder):
    done = run("train.txt", "--validation", "val.txt", "--vocab-size", 300, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "300 ids" in done.stdout
    assert "of held-out text" in done.stdout
    assert "longest tokens" in done.stdout
    assert "tokpack encode INPUT --tokenizer bpe:tok" in done.stdout
    assert "counting" in done.stderr
    assert "merging" in done.stderr
    assert Tokenizer.from_file(str(folder / "tok" / "tokenizer.json")).get_vocab_size() == 300
    assert sorted(path.name for path in folder.iterdir()) == ["tok", "train.txt", "val.txt"]


def test_json_and_same_files_for_any_worker_count_and_source(folder):
    documents = (folder / "train.txt").read_text().split("<|endoftext|>")
    with gzip.open(folder / "train.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"body": text}) + "\n" for text in documents)
    one = run("train.txt", "--vocab-size", 400, "-o", "one", "-j", 1, "--json", cwd=folder)
    two = run("train.jsonl.gz", "--text-field", "body", "--vocab-size", 400, "-o", "two", "-j", 3, cwd=folder)
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "ranks.tiktoken", "tiktoken.json"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()
    report = json.loads(one.stdout)
    assert one.stderr == ""
    assert report["reference"] == "bpe:one"
    assert (report["vocab_size"], report["asked_vocab_size"]) == (400, 400)
    assert report["quality"]["bytes_per_token"] > 2
    assert report["quality"]["held_out"] is False
    assert len(report["longest_tokens"]) == 10
    assert report["longest_tokens"][0]["bytes"] >= report["longest_tokens"][-1]["bytes"]


def test_options_reach_the_trainer(folder):
    settings = ("--special", "<|a|>", "--special", "<|b|>", "--pattern", "o200k", "--ties", "hf")
    limits = ("--min-frequency", 5, "--max-token-length", 4, "--limit-bytes", "2kB")
    done = run("train.txt", "--vocab-size", 500, *settings, *limits, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    record = json.loads((folder / "tok" / "training.json").read_text())
    assert (record["pattern"], record["tie_rule"], record["text_bytes"]) == ("o200k", "hf", 2000)
    assert record["special_tokens"] == ["<|a|>", "<|b|>"]
    report = json.loads(done.stdout)
    assert report["vocab_size"] < 500
    assert report["longest_tokens"][0]["bytes"] == 4


def test_standard_input_is_an_input(folder):
    text = (folder / "train.txt").read_text()
    named = run("train.txt", "--vocab-size", 320, "-o", "named", cwd=folder)
    piped = run("-", "--vocab-size", 320, "-o", "piped", cwd=folder, input=text)
    assert (named.returncode, piped.returncode) == (0, 0), named.stderr + piped.stderr
    assert (folder / "named" / "merges.txt").read_bytes() == (folder / "piped" / "merges.txt").read_bytes()
    empty = run("-", "--vocab-size", 320, cwd=folder, input="")
    assert (empty.returncode, "standard input is empty" in empty.stderr) == (2, True)


def test_fewer_ids_than_asked_is_said(folder):
    done = run("val.txt", "--vocab-size", 50_000, cwd=folder)
    assert done.returncode == 0
    assert "of 50,000 ids: no pair is left that may be merged" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["train.txt", "--vocab-size", 256], 2, "256 bytes and 1 special tokens need 257"),
        (["empty.txt", "--vocab-size", 300], 2, "no text to train on"),
        (["train.txt", "--vocab-size", 300, "--special", ""], 2, "special token '' is too short"),
        (["train.txt", "--vocab-size", 300, "--special", "<a>", "--special", "<a>b"], 2, "overlap"),
        (["train.txt", "--vocab-size", 300, "--pattern", "gpt5"], 2, "unknown pattern 'gpt5'"),
        (["train.txt", "--vocab-size", 300, "--ties", "toss"], 2, "unknown tie rule 'toss'"),
        (["train.txt", "--vocab-size", 300, "--backend", "byte"], 2, "'byte' cannot be trained"),
        (["train.txt", "--vocab-size", 300, "--limit-bytes", "lots"], 2, "'lots' is not a size"),
        (["absent.txt", "--vocab-size", 300], 4, "absent.txt"),
        (["broken.txt", "--vocab-size", 300], 1, "broken.txt"),
        (["train.xyz", "--vocab-size", 300], 2, "train.xyz"),
        (["train.txt", "--vocab-size", 300, "-o", "mine"], 2, "mine exists already"),
        (["train.txt", "--vocab-size", 300, "-o", "mine", "--overwrite"], 2, "not a tokenizer"),
        (["train.txt", "--vocab-size", 300, "-o", "val.txt/tok"], 4, "cannot write"),
    ],
)
def test_what_is_wrong_is_named_once_and_leaves_nothing(folder, arguments, code, says):
    (folder / "empty.txt").touch()
    (folder / "broken.txt").write_bytes(b"good \xff bad")
    (folder / "train.xyz").touch()
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.tex").touch()
    before = sorted(folder.rglob("*"))
    done = run(*arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert sorted(folder.rglob("*")) == before


def test_broken_documents_can_be_left_out_and_are_counted(folder):
    (folder / "broken.txt").write_bytes(b"good good \xff bad")
    done = run("train.txt", "broken.txt", "--vocab-size", 300, "--on-error", "skip", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "1 documents skipped or repaired (invalid-utf8)" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_nothing(folder, number):
    (folder / "big.txt").write_text(" ".join(random.Random(2).choices(WORDS, k=3_000_000)))
    program = "from tokpack.cli.app import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "train-tokenizer", "big.txt", "--vocab-size", "9000"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "counting" in process.stderr.readline()
    process.send_signal(number)
    begun = time.monotonic()
    assert process.wait(timeout=60) == 128 + number
    assert time.monotonic() - begun < 60
    assert not (folder / "tok").exists()
    assert not list(folder.glob(".*"))
    process.stderr.close()
