"""`tokpack verify` finds every change of a dataset, whatever it is, and says which file."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import tokpack
from tokpack.dataset.manifest import MANIFEST_NAME, SUMS_NAME, Split
from tokpack.dataset.verify import verify_dataset
from tokpack.errors import TokpackError


@pytest.fixture(scope="module", params=["bin", "npy"])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    lines = [
        json.dumps({"text": text})
        for text in ("one", "two words", "drei", "vier", "fünf", "six 6", "a seventh, much longer document")
    ]
    (folder / "a.jsonl").write_text("\n".join(lines) + '\n{"text": ""}\n')
    options = {"tokenizer": "byte", "format": request.param, "shard_bytes": 60, "val_fraction": 0.4}
    tokpack.encode(folder / "a.jsonl", folder / "set", **options)
    return folder / "set"


def problems(path: Path, *, quick: bool = False) -> list[str]:
    """Names of the files found bad; the manifest where it cannot even be read."""
    try:
        report = verify_dataset(path, threads=1, quick=quick)
    except TokpackError as error:
        return [str(error)]
    assert bool(report.findings) == bool(report.exit_code)
    return [finding.path for finding in report.findings]


def files(path: Path) -> list[Path]:
    return sorted(item for item in path.rglob("*") if item.is_file())


def test_an_untouched_dataset_is_whole(original: Path) -> None:
    assert problems(original) == []
    assert len(files(original)) > 8


def test_every_flipped_bit_is_found(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    shutil.copytree(original, copy)
    # What does not differ between formats is looked at once.
    chosen = [path for path in files(copy) if (copy / "train-00000.bin").exists() or "-0000" in path.name]
    for path in chosen:
        content = path.read_bytes()
        # Manifest and sums are kilobytes of text: one bit of every byte, in turn; of all others, every bit.
        text = path.parent == copy and path.suffix in (".json", "")
        for position in range(len(content)):
            for bit in (position % 7,) if text else range(8):
                changed = bytearray(content)
                changed[position] ^= 1 << bit
                path.write_bytes(changed)
                assert problems(copy, quick=text), f"{path.name}: bit {bit} of byte {position} was missed"
        path.write_bytes(content)
    assert problems(copy) == []


def test_every_truncation_and_extension_is_found(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    shutil.copytree(original, copy)
    for path in files(copy):
        content = path.read_bytes()
        lengths = range(0, len(content), 1 if len(content) < 200 else 97)
        for length in lengths:
            path.write_bytes(content[:length])
            assert problems(copy), f"{path.name} cut to {length}"
        for more in (b"\0", b"x" * 16):
            path.write_bytes(content + more)
            assert problems(copy), f"{path.name} with {len(more)} bytes more"
        path.write_bytes(content)


def test_the_bad_file_is_named(original: Path, tmp_path: Path) -> None:
    for path in files(original):
        copy = tmp_path / "set"
        shutil.copytree(original, copy)
        relative = path.relative_to(original).as_posix()
        content = bytearray((copy / relative).read_bytes())
        content[-1] ^= 0x40
        (copy / relative).write_bytes(content)
        assert any(relative in found for found in problems(copy)), relative
        shutil.rmtree(copy)


def _remove(path: Path) -> None:
    path.unlink()


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [_remove, _link, _folder, _pipe])
def test_missing_and_foreign_files_are_found(
    original: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    for path in files(original):
        copy = tmp_path / "set"
        shutil.copytree(original, copy)
        change(copy / path.relative_to(original))
        assert problems(copy), path.name
        shutil.rmtree(copy)


def test_added_files_are_found(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    shutil.copytree(original, copy)
    (copy / "train-99999.bin").write_bytes(b"")
    assert problems(copy) == ["train-99999.bin"]
    (copy / "train-99999.bin").rename(copy / "tokenizer" / "extra")
    assert problems(copy) == ["tokenizer/extra"]


def test_swapped_and_doubled_shards_are_found(original: Path, tmp_path: Path) -> None:
    shards = [
        path for path in files(original) if path.name.startswith("train-") and "offsets" not in path.name
    ]
    assert len(shards) > 2
    for left, right in itertools.permutations(shards, 2):
        if left.read_bytes() == right.read_bytes():
            continue
        copy = tmp_path / "set"
        shutil.copytree(original, copy)
        (copy / left.name).write_bytes(right.read_bytes())
        shutil.copystat(left, copy / left.name)
        assert left.name in problems(copy)
        shutil.rmtree(copy)


def test_a_forged_set_passes_unless_the_root_digest_is_pinned(original: Path, tmp_path: Path) -> None:
    genuine = tokpack.open_dataset(original).manifest.root_digest
    forged = tmp_path / "forged"
    (tmp_path / "other.txt").write_text("something else")
    tokpack.encode(tmp_path / "other.txt", forged, tokenizer="byte")
    assert verify_dataset(forged).exit_code == 0
    report = verify_dataset(forged, expect=genuine)
    assert report.exit_code == 5
    assert verify_dataset(original, expect=genuine.upper()).exit_code == 0


def test_a_split_bin_file_is_proved_in_blocks(tmp_path: Path) -> None:
    """One file of several blocks: the parallel road of the default dataset."""
    rng = np.random.default_rng(3)
    (tmp_path / "a.txt").write_bytes(rng.integers(32, 127, 3_000_000, dtype=np.uint8).tobytes())
    tokpack.encode(tmp_path / "a.txt", tmp_path / "set", tokenizer="byte")
    train = tmp_path / "set" / "train.bin"
    assert problems(tmp_path / "set") == []
    content = train.read_bytes()
    for position in (0, 2**21 - 1, 2**21, len(content) - 1, *rng.integers(0, len(content), 20).tolist()):
        changed = bytearray(content)
        changed[position] ^= 4
        train.write_bytes(changed)
        assert "train.bin" in problems(tmp_path / "set"), position


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest, and the sums with it, so that only its content is wrong."""
    content = json.loads((path / MANIFEST_NAME).read_bytes())
    change(content)
    splits = msgspec.convert(content["splits"], dict[str, Split])
    manifest = dataclasses.replace(tokpack.open_dataset(path).manifest, splits=splits)
    (path / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    (path / SUMS_NAME).write_text(manifest.checksums())


def test_a_false_range_of_ids_is_found(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    shutil.copytree(original, copy)

    def change(manifest: dict[str, Any]) -> None:
        manifest["splits"]["train"]["shards"][1]["max_id"] -= 1

    rewrite(copy, change)
    assert problems(copy) == [next(p.name for p in files(copy) if p.name.startswith("train-00001."))]
    (tmp_path / "a.txt").write_text("one file, in blocks")
    tokpack.encode(tmp_path / "a.txt", tmp_path / "one", tokenizer="byte")
    rewrite(tmp_path / "one", lambda manifest: manifest["splits"]["train"]["shards"][0].update(min_id=0))
    assert problems(tmp_path / "one") == ["train.bin"]


def test_boundaries_that_the_manifest_does_not_name(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    shutil.copytree(original, copy)
    rewrite(copy, lambda manifest: manifest["splits"]["train"]["shards"][0].pop("offsets"))
    assert any("train-00000" in found for found in problems(copy))


def test_the_command(tokpack, original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    shutil.copytree(original, copy)
    done = tokpack("verify", "set")
    assert done.returncode == 0
    assert "root digest" in done.stdout
    (copy / "units.jsonl").unlink()
    (copy / "tokenizer" / "new").write_text("x")
    done = tokpack("verify", "set")
    assert done.returncode == 1
    assert "units.jsonl: missing" in done.stdout
    assert "tokenizer/new: not part of the dataset" in done.stdout
    assert "2 problems" in done.stdout
    found = json.loads(tokpack("verify", "set", "--json").stdout)
    assert found["exit_code"] == 1
    assert len(found["findings"]) == 2
    assert tokpack("verify", "set", "--quick").returncode == 1


def test_the_command_names_what_is_not_there(tokpack, tmp_path: Path) -> None:
    done = tokpack("verify", "nothing")
    assert done.returncode == 4
    assert "does not exist" in done.stderr
    (tmp_path / "work.partial").mkdir()
    done = tokpack("verify", "work")
    assert done.returncode == 3
    assert "run the same `tokpack encode` again" in done.stderr
    (tmp_path / "plain").mkdir()
    assert tokpack("verify", "plain").returncode == 4


def test_sampled_documents_are_read_again_from_their_sources(tokpack, tmp_path: Path) -> None:
    texts = [f"document number {number}" for number in range(50)]
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    tokpack("encode", "a.jsonl", "-t", "byte", "--val-fraction", "0.3", "--max-length", "12")
    done = tokpack("verify", "--sample", 500, "--source", ".")
    assert done.returncode == 0, done.stdout
    assert "documents encoded again from .: equal" in done.stdout
    source.write_text(source.read_text().replace("number 7", "number 8"))
    done = tokpack("verify", "--sample", 500, "--source", ".")
    assert done.returncode == 5
    assert "is not what a.jsonl at" in done.stdout
    assert tokpack("verify", "--sample", 5).returncode == 2
    source.unlink()
    done = tokpack("verify", "--sample", 5, "--source", ".")
    assert done.returncode == 4
    assert "--source names the folder" in done.stdout
