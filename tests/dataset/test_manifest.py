"""The manifest: canonical, strict, and without the accidents of where it was made."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import tokpack
from tokpack.dataset.manifest import decode_manifest, read_manifest
from tokpack.errors import DamagedError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "a.txt").write_text("hello")
    tokpack.encode(folder / "a.txt", folder / "set", tokenizer="byte")
    return folder / "set"


def test_it_is_its_own_canonical_form(dataset: Path) -> None:
    content = (dataset / "manifest.json").read_bytes()
    assert read_manifest(dataset).to_bytes() == content
    assert content == (json.dumps(json.loads(content), indent=2, sort_keys=True) + "\n").encode()


def test_the_ordinary_tool_accepts_the_checksums(dataset: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=dataset,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("OK") == len([path for path in dataset.rglob("*") if path.is_file()]) - 1


CHANGES = [
    ("another space", lambda text: text.replace('"version": 1', '"version":  1')),
    ("an unknown field", lambda text: text.replace('"version": 1', '"version": 1,\n  "zzz": 1')),
    ("a repeated key", lambda text: text.replace('"version": 1', '"version": 1,\n  "version": 1')),
    ("no newline", lambda text: text.rstrip()),
    ("a later version", lambda text: text.replace('"version": 1', '"version": 2')),
    ("a path in a name", lambda text: text.replace('"train.bin"', '"../train.bin"')),
    ("an absolute name", lambda text: text.replace('"train.bin"', '"/train.bin"')),
    ("a hidden name", lambda text: text.replace('"train.bin"', '".train.bin"')),
    ("a line break in a name", lambda text: text.replace('"train.bin"', '"train.bin\\n"')),
    ("a negative count", lambda text: text.replace('"documents": 1', '"documents": -1')),
    ("a huge count", lambda text: text.replace('"documents": 1', '"documents": 1e400')),
    ("a dtype nobody knows", lambda text: text.replace('"uint16"', '"uint17"')),
    ("upper-case digits", lambda text: text.replace("a", "A")),
    ("a list", lambda text: "[]\n"),
    ("nothing", lambda text: ""),
    ("depth", lambda text: "[" * 100_000),
    ("not JSON", lambda text: text[:-20]),
    ("not UTF-8", lambda text: text + "\udcff"),
]


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=[name for name, _ in CHANGES])
def test_anything_else_is_refused_by_name(dataset: Path, name: str, change) -> None:
    text = (dataset / "manifest.json").read_text()
    changed = change(text).encode(errors="surrogateescape")
    assert changed != text.encode()
    with pytest.raises(DamagedError, match=r"manifest\.json"):
        decode_manifest(changed, dataset / "manifest.json")
