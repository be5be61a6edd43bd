"""Token files of other tools: what they hold becomes a dataset that verifies, or nothing is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokpack.dataset.store import open_dataset
from tokpack.dataset.verify import verify_dataset
from tokpack.encoding.adopt import AdoptOptions, adopt
from tokpack.encoding.api import encode
from tokpack.errors import DamagedError, StorageError, UsageError

EOS = 256  # of `byte`
TOKENS = np.array([*b"one", EOS, *b"two words", EOS, EOS, *b"cut"], np.uint16)
DOCUMENTS = [[*b"one", EOS], [*b"two words", EOS], [EOS], [*b"cut"]]


def documents(path: Path, split: str = "train") -> list[list[int]]:
    store = open_dataset(path)[split]
    return [store.document(index).tolist() for index in range(store.num_documents)]


@pytest.mark.parametrize("layout", ["bin", "npy"])
def test_files_of_nanogpt_and_numpy(tmp_path: Path, tokpack: Any, layout: str) -> None:
    for name, tokens in (("train", TOKENS), ("val", TOKENS[:4])):
        np.save(tmp_path / f"{name}.npy", tokens)
        tokens.tofile(tmp_path / f"{name}.bin")
    files = [tmp_path / f"train.{layout}", "--validation", tmp_path / f"val.{layout}", "--from", layout]
    done = tokpack("import", *files, "-t", "byte", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "train: 4 documents, 18 tokens" in done.stdout
    assert documents(tmp_path / "out") == DOCUMENTS
    assert documents(tmp_path / "out", "validation") == DOCUMENTS[:1]
    assert (tmp_path / "out/train.bin").read_bytes() == TOKENS.tobytes()
    assert verify_dataset(tmp_path / "out").findings == ()
    text = tokpack("decode", tmp_path / "out", "--document", 1)
    assert text.stdout.startswith("t│w│o│")
    explained = tokpack("explain", tmp_path / "out", "--seq-len", 6, "--json")
    assert json.loads(explained.stdout)["pieces"][0]["inputs"][0][0] == f"train.{layout}"


def test_several_files_and_an_index_beside_them(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\nyy\n\nzzz")
    original = encode(tmp_path / "a.txt", tmp_path / "made", tokenizer="byte", text_split="lines", eos=False)
    file = tmp_path / "made/train.bin"
    made = adopt({"train": [file]}, tmp_path / "out", AdoptOptions(tokenizer="byte", layout="bin"))
    assert made["train"].fingerprint == original["train"].fingerprint  # though there is no EOS in it
    assert made.manifest.options["eos"] is False
    starts = AdoptOptions(tokenizer="byte", layout="bin", document_start=EOS, format="npy")
    TOKENS.tofile(tmp_path / "b.bin")
    twice = adopt({"train": [tmp_path / "b.bin"] * 2}, tmp_path / "twice", starts)
    once = [[*b"one"], [EOS, *b"two words"], [EOS], [EOS, *b"cut"]]
    assert documents(tmp_path / "twice") == once * 2
    assert twice.manifest.format.name == "npy"


def test_what_cannot_be_imported(tmp_path: Path) -> None:
    np.array([1, 300], np.uint16).tofile(tmp_path / "wide.bin")
    (tmp_path / "odd.bin").write_bytes(b"abc")
    (tmp_path / "empty.bin").write_bytes(b"")
    np.save(tmp_path / "wide.npy", np.array([1, 2], np.uint32))
    for name, layout, error, message in (
        ("wide.bin", "bin", DamagedError, "holds id 300, but the tokenizer has 257 ids"),
        ("odd.bin", "bin", DamagedError, "truncated or of another dtype"),
        ("empty.bin", "bin", UsageError, "there are no tokens"),
        ("wide.npy", "npy", DamagedError, "expected one axis of uint16"),
        ("none.bin", "bin", StorageError, "is no file"),
    ):
        with pytest.raises(error, match=message):
            adopt(
                {"train": [tmp_path / name]}, tmp_path / "out", AdoptOptions(tokenizer="byte", layout=layout)
            )
    wide = AdoptOptions(tokenizer="byte", layout="npy", dtype="uint32")
    assert adopt({"train": [tmp_path / "wide.npy"]}, tmp_path / "out", wide).manifest.dtype == "uint16"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["out"]
