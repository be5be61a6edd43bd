"""`tokpack encode` as people run it: the dataset it writes, byte for byte, and every mistake it must name."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

STORIES = [
    f"Story {number}. Once upon a time, ünïcödé №{number} 😀.\n" * (number % 7 + 1) for number in range(60)
]
EOS = 256


def packed(documents: list[str]) -> bytes:
    """What the byte tokenizer must store, from its definition alone."""
    return b"".join(
        np.array([*text.encode(), EOS], dtype="<u2").tobytes() for text in documents if text != ""
    )


def write_jsonl(path: Path, documents: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"text": text, "n": 1}) + "\n" for text in documents))


def digest(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_mission_line_in_a_folder_with_data(tokpack, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b10.txt").write_text("ten")
    (tmp_path / "data" / "b9.txt").write_text("nine")
    write_jsonl(tmp_path / "data" / "a.jsonl", ["one", "two"])
    done = tokpack("encode", "--tokenizer", "byte", "--format", "bin")
    assert done.returncode == 0, done.stderr
    data = np.memmap(tmp_path / "tokenized" / "train.bin", dtype=np.uint16, mode="r")
    assert data.tobytes() == packed(["one", "two", "nine", "ten"])
    assert not (tmp_path / "tokenized.partial").exists()
    assert tokpack("verify", "./tokenized").returncode == 0
    for line in ("train", "documents: 4 read = 4 encoded + 0 empty", "root digest", "tokpack verify"):
        assert line in done.stdout


def test_npy_is_numpys_own(tokpack, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", STORIES)
    assert tokpack("encode", "a.jsonl", "-t", "byte", "-f", "npy").returncode == 0
    loaded = np.load(tmp_path / "tokenized" / "train.npy", mmap_mode="r")
    assert loaded.tobytes() == packed(STORIES)
    expected = tmp_path / "expected.npy"
    np.save(expected, np.asarray(loaded))
    assert (tmp_path / "tokenized" / "train.npy").read_bytes() == expected.read_bytes()
    offsets = np.load(tmp_path / "tokenized" / "train.offsets.npy")
    assert offsets.tolist() == np.cumsum([0] + [len(text.encode()) + 1 for text in STORIES]).tolist()


def test_the_bytes_do_not_depend_on_workers(tokpack, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", STORIES * 400)
    folders = []
    for workers in (1, 2, 4):
        output = tmp_path / f"out{workers}"
        done = tokpack(
            "encode", "a.jsonl", "-t", "byte", "-o", output, "-j", workers, "--shard-bytes", "100kB"
        )
        assert done.returncode == 0, done.stderr
        folders.append(digest(output))
    assert folders[0] == folders[1] == folders[2]
    assert len(folders[0]) > 10


@pytest.mark.parametrize("shard_bytes", ["1", "100", "1kB", "10kB"])
def test_shards_end_at_documents_and_join_to_the_same_tokens(
    tokpack, tmp_path: Path, shard_bytes: str
) -> None:
    write_jsonl(tmp_path / "a.jsonl", STORIES)
    done = tokpack("encode", "a.jsonl", "-t", "byte", "--shard-bytes", shard_bytes)
    assert done.returncode == 0, done.stderr
    shards = sorted((tmp_path / "tokenized").glob("train-*.bin"))
    assert b"".join(path.read_bytes() for path in shards) == packed(STORIES)
    for path in shards:
        assert np.fromfile(path, np.uint16)[-1] == EOS
    assert tokpack("verify").returncode == 0


def test_the_number_of_shards_is_what_was_asked(tokpack, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", STORIES * 5)
    assert tokpack("encode", "a.jsonl", "-t", "byte", "--num-shards", 7).returncode == 0
    shards = sorted((tmp_path / "tokenized").glob("train-*.bin"))
    assert len(shards) == 7
    assert b"".join(path.read_bytes() for path in shards) == packed(STORIES * 5)
    (tmp_path / "one.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    done = tokpack("encode", "one.jsonl.gz", "-t", "byte", "--num-shards", 7, "-o", "gz")
    assert done.returncode == 2
    assert "--shard-bytes" in done.stderr


def test_standard_input(tokpack, tmp_path: Path) -> None:
    done = tokpack("encode", "-t", "byte", "-o", "text", input="hello")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "text" / "train.bin").read_bytes() == packed(["hello"])
    lines = "".join(json.dumps({"text": text}) + "\n" for text in STORIES)
    assert tokpack("encode", "-", "-t", "byte", "-o", "json", input=lines).returncode == 0
    assert (tmp_path / "json" / "train.bin").read_bytes() == packed(STORIES)
    done = tokpack("encode", "-", "-t", "byte", "-o", "none", input="")
    assert done.returncode == 2
    assert "standard input is empty" in done.stderr


def test_text_files_split_at_endoftext_lines_and_say_so(tokpack, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n<|endoftext|>\ntwo")
    done = tokpack("encode", "a.txt", "-t", "byte")
    assert "split at <|endoftext|>" in done.stderr
    assert (tmp_path / "tokenized" / "train.bin").read_bytes() == packed(["one\n", "\ntwo"])
    done = tokpack("encode", "a.txt", "-t", "byte", "--text-split", "file", "-o", "whole")
    assert (tmp_path / "whole" / "train.bin").read_bytes() == packed(["one\n<|endoftext|>\ntwo"])
    done = tokpack("encode", "a.txt", "-t", "byte", "--text-split", "lines", "-o", "lines")
    assert (tmp_path / "lines" / "train.bin").read_bytes() == packed(["one", "<|endoftext|>", "two"])


@pytest.mark.parametrize(("policy", "code"), [("text", 0), ("parse", 0), ("error", 1)])
def test_a_special_token_in_a_document_is_text_unless_asked(
    tokpack, tmp_path: Path, policy: str, code: int
) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["good", "bad <|endoftext|> end"])
    done = tokpack("encode", "a.jsonl", "-t", "byte", "--special", policy)
    assert done.returncode == code, done.stderr
    if policy == "error":
        assert "--special text" in done.stderr
        assert not (tmp_path / "tokenized").exists()
        return
    tokens = np.fromfile(tmp_path / "tokenized" / "train.bin", np.uint16).tolist()
    assert tokens.count(EOS) == (2 if policy == "text" else 3)


def test_special_error_can_skip(tokpack, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["good", "bad <|endoftext|> end", "fine"])
    done = tokpack("encode", "a.jsonl", "-t", "byte", "--special", "error", "--on-error", "skip")
    assert done.returncode == 0, done.stderr
    assert "1 skipped (special-token)" in done.stdout
    assert (tmp_path / "tokenized" / "train.bin").read_bytes() == packed(["good", "fine"])


def test_boundaries(tokpack, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["ab", "c"])
    tokpack("encode", "a.jsonl", "-t", "byte", "--no-eos")
    assert np.fromfile(tmp_path / "tokenized" / "train.bin", np.uint16).tolist() == [97, 98, 99]
    done = tokpack("encode", "a.jsonl", "-t", "byte", "--bos", "-o", "bos")
    assert done.returncode == 2
    assert "the tokenizer has no BOS token; leave it out with --no-bos" in done.stderr


BROKEN = [
    b'{"text": "good"}\n',
    b'{"text": "bad utf8 \xff"}\n',
    b'{"text": 5}\n',
    b'{"other": "x"}\n',
    b"{nonsense\n",
    b'{"text": ""}\n',
    b'{"text": "half \\ud83d pair"}\n',
    b'{"text": "end"}\n',
]


def test_broken_documents_fail_by_default_with_file_and_place(tokpack, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"".join(BROKEN))
    done = tokpack("encode", "a.jsonl", "-t", "byte")
    assert done.returncode == 1
    assert "a.jsonl" in done.stderr
    assert "byte 17" in done.stderr
    assert "--on-error skip" in done.stderr
    assert not (tmp_path / "tokenized").exists()


@pytest.mark.parametrize(("policy", "encoded"), [("skip", 2), ("replace", 4)])
def test_every_broken_document_is_counted_and_quarantined(
    tokpack, tmp_path: Path, policy: str, encoded: int
) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"".join(BROKEN))
    done = tokpack("encode", "a.jsonl", "-t", "byte", "--on-error", policy, "--json")
    assert done.returncode == 0, done.stderr
    ledger = json.loads(done.stdout)["manifest"]["ledger"]
    assert ledger["read"] == len(BROKEN)
    assert ledger["encoded"] == encoded
    assert ledger["empty"] == 1
    assert ledger["read"] == ledger["encoded"] + ledger["empty"] + sum(ledger["skipped"].values())
    lines = (tmp_path / "tokenized" / "quarantine.jsonl").read_text().splitlines()
    listed = [json.loads(line) for line in lines]
    assert len(listed) == len(BROKEN) - 2
    starts = np.cumsum([0] + [len(line) for line in BROKEN]).tolist()
    assert {entry["position"] for entry in listed} == set(starts[1:7])
    assert {entry["path"] for entry in listed} == {"a.jsonl"}
    assert tokpack("verify").returncode == 0


def test_empty_documents_can_be_kept(tokpack, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\n\nb\n")
    done = tokpack("encode", "a.txt", "-t", "byte", "--text-split", "lines", "--keep-empty")
    assert done.returncode == 0, done.stderr
    assert np.fromfile(tmp_path / "tokenized" / "train.bin", np.uint16).tolist() == [97, EOS, EOS, 98, EOS]


@pytest.mark.parametrize(
    ("policy", "expected", "note"),
    [
        ("split", [b"abc", b"def", b"g", b"xy"], "1 split"),
        ("truncate", [b"abc", b"xy"], "1 truncated, 4 tokens cut"),
        ("skip", [b"xy"], "1 skipped (too-long)"),
    ],
)
def test_long_documents(tokpack, tmp_path: Path, policy: str, expected: list[bytes], note: str) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["abcdefg", "xy"])
    done = tokpack("encode", "a.jsonl", "-t", "byte", "--max-length", 4, "--too-long", policy)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tokenized" / "train.bin").read_bytes() == packed([text.decode() for text in expected])
    assert note in done.stdout


def test_validation_by_path_fraction_and_name(tokpack, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data" / "train.jsonl", STORIES)
    write_jsonl(tmp_path / "data" / "val.jsonl", ["held out"])
    done = tokpack(
        "encode", "data", "-t", "byte", "--validation", "data/val.jsonl", "--split", "test=data/val*"
    )
    assert done.returncode == 0, done.stderr
    output = tmp_path / "tokenized"
    assert (output / "train.bin").read_bytes() == packed(STORIES)
    assert (
        (output / "validation.bin").read_bytes() == (output / "test.bin").read_bytes() == packed(["held out"])
    )


def test_a_fraction_is_held_out_by_content(tokpack, tmp_path: Path) -> None:
    texts = [f"document {number % 500}" for number in range(2000)]
    write_jsonl(tmp_path / "a.jsonl", texts)
    done = tokpack("encode", "a.jsonl", "-t", "byte", "--val-fraction", 0.2)
    assert done.returncode == 0, done.stderr
    stored = {}
    for split in ("train", "validation"):
        tokens = (tmp_path / "tokenized" / f"{split}.bin").read_bytes()
        stored[split] = bytes(np.frombuffer(tokens, "<u2").astype(np.uint8)).split(b"\0")[:-1]
    assert not set(stored["train"]) & set(stored["validation"])
    assert sorted(stored["train"] + stored["validation"]) == sorted(text.encode() for text in texts)
    assert 0.1 < len(stored["validation"]) / len(texts) < 0.3


def test_dtype_follows_the_vocabulary_and_widens_on_request(tokpack, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["ab"])
    assert tokpack("encode", "a.jsonl", "-t", "byte", "--dtype", "uint32").returncode == 0
    assert np.fromfile(tmp_path / "tokenized" / "train.bin", np.uint32).tolist() == [97, 98, EOS]
    done = tokpack("encode", "a.jsonl", "-t", "byte", "--dtype", "uint8", "-o", "narrow")
    assert done.returncode == 2
    assert "uint16, uint32" in done.stderr


def test_a_dry_run_writes_nothing_and_estimates(tokpack, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data" / "a.jsonl", STORIES)
    done = tokpack("encode", "-t", "byte", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "nothing was written" in done.stdout
    assert not (tmp_path / "tokenized").exists()
    assert not (tmp_path / "tokenized.partial").exists()
    expected = json.loads(tokpack("encode", "-t", "byte", "--dry-run", "--json").stdout)["estimate"]
    true_tokens = len(packed(STORIES)) // 2
    assert 0.9 < expected["tokens"] / true_tokens < 1.1


def test_an_existing_dataset_is_replaced_only_on_request(tokpack, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["old"])
    write_jsonl(tmp_path / "b.jsonl", ["new"])
    tokpack("encode", "a.jsonl", "-t", "byte")
    done = tokpack("encode", "b.jsonl", "-t", "byte")
    assert done.returncode == 2
    assert "--overwrite" in done.stderr
    assert (tmp_path / "tokenized" / "train.bin").read_bytes() == packed(["old"])
    assert tokpack("encode", "b.jsonl", "-t", "byte", "--overwrite").returncode == 0
    assert (tmp_path / "tokenized" / "train.bin").read_bytes() == packed(["new"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl", "tokenized"]


def test_quiet_and_json(tokpack, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["x"])
    done = tokpack("encode", "a.jsonl", "-t", "byte", "--quiet")
    assert (done.stdout, done.stderr) == ("", "")
    done = tokpack("encode", "a.jsonl", "-t", "byte", "--json", "-o", "b")
    result = json.loads(done.stdout)
    assert done.stderr == ""
    assert result["manifest"]["splits"]["train"]["tokens"] == 2


def test_the_dataset_does_not_tell_where_it_was_made(tokpack, tmp_path: Path) -> None:
    for folder in ("here", "there"):
        write_jsonl(tmp_path / folder / "a.jsonl", STORIES)
        assert (
            tokpack("encode", tmp_path / folder / "a.jsonl", "-t", "byte", "-o", f"{folder}.out").returncode
            == 0
        )
    assert digest(tmp_path / "here.out") == digest(tmp_path / "there.out")
    assert str(tmp_path) not in (tmp_path / "here.out" / "manifest.json").read_text()


MISTAKES = [
    (["missing.txt", "-t", "byte"], 4, "cannot read missing.txt"),
    (["missing", "-t", "byte"], 4, "cannot read missing: No such file or directory"),
    (["*.nothing", "-t", "byte"], 4, "no file matches"),
    (["empty.txt", "-t", "byte"], 2, "the input is empty"),
    (["blank.jsonl", "-t", "byte"], 2, "no document was left"),
    (["picture.png", "-t", "byte"], 2, "no source plugin reads picture.png"),
    (["a.txt", "-t", "bite"], 2, "unknown tokenizer 'bite'"),
    (["a.txt", "-t", "C:\\x"], 2, "no tokenizer reference"),
    (["a.txt", "-t", "byte", "-f", "parket"], 2, "unknown format 'parket'"),
    (["a.txt", "-t", "byte", "--format-option", "level=3"], 2, "format 'bin' has no option 'level'"),
    (["a.txt", "-t", "byte", "--shard-bytes", "many"], 2, "'many' is not a size"),
    (["a.txt", "-t", "byte", "--shard-bytes", "1kB", "--num-shards", "2"], 2, "exclude each other"),
    (["a.txt", "-t", "byte", "--val-fraction", "1.5"], 2, "--val-fraction"),
    (["a.txt", "-t", "byte", "--max-length", "1"], 2, "--max-length leaves no room"),
    (["a.txt", "-t", "byte", "--split", "test"], 2, "write NAME=VALUE"),
    (["a.txt", "-t", "byte", "-o", "a.txt"], 2, "exists already"),
    (["a.txt", "-t", "byte", "-o", "a.txt/x"], 4, "cannot write"),
    (["a.txt", "-t", "byte", "--executor", "rai"], 2, "unknown executor 'rai'"),
    ([], 2, "--tokenizer tiktoken:gpt2"),
    (["-t", "byte"], 2, "no input"),
    (["pipe", "-t", "byte", "--input-format", "text"], 2, "pipe it in instead"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), MISTAKES)
def test_mistakes_get_one_clear_error(
    tokpack, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.jsonl").write_text('{"text": ""}\n')
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    os.mkfifo(tmp_path / "pipe")
    before = digest(tmp_path)
    done = tokpack("encode", *arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert message in done.stderr
    assert digest(tmp_path) == before
    assert not list(tmp_path.glob("*.partial"))


def test_a_folder_that_cannot_be_read_is_named(tokpack, tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    done = tokpack("encode", "a.txt", "-t", "byte")
    assert done.returncode == 2
    assert "no input in a.txt" in done.stderr
