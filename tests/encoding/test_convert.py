"""Any format to any other: the same documents, proved, or nothing."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokpack.dataset.store import Dataset, open_dataset
from tokpack.dataset.verify import verify_dataset
from tokpack.encoding.api import encode
from tokpack.encoding.convert import ConvertOptions, convert
from tokpack.errors import DamagedError, MismatchError, UnknownPluginError, UsageError
from tokpack.formats.npy import NpyReader
from tokpack.plugins import discover
from tokpack.testing import shared_data

FORMATS = [
    name for name in ("bin", "npy", "jsonl", "jsonl-zst", "arrow", "parquet") if name in discover().formats
]
TEXTS = ["Once upon a time.", "x", 'two "lines"\nof text ✓', "y" * 3000, "\x00\x01", "end"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("original")
    lines = [json.dumps({"text": text}) for text in TEXTS]
    (folder / "train.jsonl").write_text("\n".join(lines))
    (folder / "held.jsonl").write_text(json.dumps({"text": "held out"}))
    return encode(
        folder / "train.jsonl",
        folder / "tokenized",
        tokenizer="byte",
        validation=[folder / "held.jsonl"],
        shard_bytes=1000,
    )


def documents_of(dataset: Dataset) -> dict[str, list[list[int]]]:
    return {
        name: [store.document(index).tolist() for index in range(store.num_documents)]
        for name, store in dataset.items()
    }


def to(path: Path, output: Path, name: str, **options: Any) -> Dataset:
    return convert(path, output, ConvertOptions(format=name, **options))


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(FORMATS, 2)))
def test_there_and_back(original: Dataset, tmp_path: Path, first: str, second: str) -> None:
    expected = documents_of(original)
    assert [bytes(document[:-1]).decode() for document in expected["train"]] == TEXTS
    there = to(original.path, tmp_path / "there", first)
    on = to(there.path, tmp_path / "on", second, shard_bytes=500)
    for written in (there, on):
        assert documents_of(written) == expected
        assert verify_dataset(written.path).findings == ()
        for name, split in written.manifest.splits.items():
            before = original.manifest.splits[name]
            assert (split.digest, split.text_bytes) == (before.digest, before.text_bytes)
    assert on.manifest.sources == original.manifest.sources
    assert on.manifest.ledger == original.manifest.ledger


def test_what_stays_and_what_changes(original: Dataset, tmp_path: Path) -> None:
    wide = to(original.path, tmp_path / "wide", "npy", dtype="uint32")
    assert np.load(tmp_path / "wide" / "train.npy").dtype == np.uint32
    assert wide["train"].fingerprint == original["train"].fingerprint
    assert documents_of(wide) == documents_of(original)
    narrow = to(wide.path, tmp_path / "narrow", "bin", dtype="uint16", shard_bytes=1000)
    ours = [info.sha256 for info in narrow.manifest.paths().values()]
    assert ours == [info.sha256 for info in original.manifest.paths().values()]
    assert narrow.manifest.root_digest == original.manifest.root_digest


def test_with_text(original: Dataset, tmp_path: Path) -> None:
    written = to(original.path, tmp_path / "texts", "jsonl", with_text=True)
    (shard,) = written.manifest.splits["train"].shards
    lines = [json.loads(line) for line in (written.path / shard.file.name).read_text().splitlines()]
    assert [line["text"] for line in lines] == TEXTS
    assert documents_of(written) == documents_of(original)
    with pytest.raises(UsageError, match="bin stores no text"):
        to(original.path, tmp_path / "b", "bin", with_text=True)


def test_with_text_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    made = encode(tmp_path / "a.jsonl", tmp_path / "out", tokenizer="byte", format="jsonl", with_text=True)
    (shard,) = made.manifest.splits["train"].shards
    lines = [json.loads(line) for line in (made.path / shard.file.name).read_text().splitlines()]
    assert [line["text"] for line in lines] == TEXTS
    with pytest.raises(UsageError, match="bin stores no text"):
        encode(tmp_path / "a.jsonl", tmp_path / "no", tokenizer="byte", with_text=True)


def test_columns_go_along(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    padded = encode(
        tmp_path / "a.jsonl",
        tmp_path / "jsonl",
        tokenizer="byte",
        format="jsonl",
        max_length=40,
        padding="max_length",
        pad_id=0,
    )
    wide = [name for name in ("parquet", "arrow") if name in FORMATS]
    last = padded
    for name in [*wide, "jsonl-gz", "bin", "npy"]:
        last = to(last.path, tmp_path / name, name)
        store, before = last["train"], padded["train"]
        assert store.fingerprint == before.fingerprint
        mask = store.column("attention_mask").read(0, len(store))
        assert mask.tolist() == before.column("attention_mask").read(0, len(before)).tolist()
        assert 0 < mask.sum() < len(mask)
        windows = np.empty((5, 9), np.uint8)
        starts = np.array([len(store) - 9, 3, 40, 3, 0])
        assert store.loss_mask is not None  # padding is no label
        store.loss_mask.gather(starts, windows)
        assert windows.tolist() == [mask[start : start + 9].tolist() for start in starts]
    assert verify_dataset(last.path).findings == ()


def test_one_digest_for_every_source(tmp_path: Path) -> None:
    """The same 400 stories as text, compressed JSON lines and, where installed, Parquet and Arrow."""
    folder = shared_data() / "text/formats"
    columnar = [name for name in ("parquet", "arrow") if name in discover().sources]
    kinds = ["jsonl.gz", "jsonl.zst", *columnar]
    digests = set()
    for kind in kinds:
        encoded = encode(folder / f"tinystories_400.{kind}", tmp_path / kind, tokenizer="byte")
        digests.add(encoded["train"].fingerprint)
    stories = [bytes(document[:-1]).decode() for document in documents_of(encoded)["train"]]
    (tmp_path / "stories.txt").write_text("<|endoftext|>".join(stories))
    text = encode(tmp_path / "stories.txt", tmp_path / "text", tokenizer="byte", text_split="separator")
    digests.add(text["train"].fingerprint)
    assert len(stories) == 400
    assert len(digests) == 1


def test_a_damaged_dataset_is_not_converted(original: Dataset, tmp_path: Path) -> None:
    damaged = to(original.path, tmp_path / "damaged", "bin")
    content = bytearray((tmp_path / "damaged/train.bin").read_bytes())
    content[10] ^= 1
    (tmp_path / "damaged/train.bin").write_bytes(content)
    with pytest.raises(DamagedError, match="does not hold the documents that its manifest tells of"):
        to(damaged.path, tmp_path / "new", "npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged"]


def test_a_format_that_loses_something_is_found_out(
    original: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = NpyReader.read
    monkeypatch.setattr(NpyReader, "read", lambda self, start, stop: read(self, start, stop) ^ 1)
    with pytest.raises(DamagedError, match="read back, hold other documents than were written"):
        to(original.path, tmp_path / "new", "npy")
    assert list(tmp_path.iterdir()) == []


def test_requests_that_cannot_be_met(original: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UnknownPluginError, match="unknown format 'tfrecord'"):
        to(original.path, tmp_path / "new", "tfrecord")
    with pytest.raises(UsageError, match="has no option 'speed'"):
        to(original.path, tmp_path / "new", "bin", format_options={"speed": "11"})
    with pytest.raises(UsageError, match="is the dataset itself"):
        to(original.path, original.path, "npy")
    to(original.path, tmp_path / "new", "npy")
    with pytest.raises(UsageError, match="exists already"):
        to(original.path, tmp_path / "new", "npy")
    again = convert(original.path, tmp_path / "new", ConvertOptions(format="bin"), overwrite=True)
    assert again.manifest.format.name == "bin"
    assert open_dataset(tmp_path / "new").manifest.format.name == "bin"


def test_an_unfinished_encode_is_left_alone(original: Dataset, tmp_path: Path) -> None:
    partial = tmp_path / "new.partial"
    (partial / "dataset").mkdir(parents=True)
    (partial / "journal").write_bytes(b"a unit")
    (partial / "plan.json").write_bytes(b"{}")
    with pytest.raises(MismatchError, match="unfinished encode"):
        to(original.path, tmp_path / "new", "npy")
    assert (partial / "journal").read_bytes() == b"a unit"


def test_what_a_killed_conversion_left_is_cleared(original: Dataset, tmp_path: Path) -> None:
    stale = tmp_path / "new.partial/dataset"
    stale.mkdir(parents=True)
    (stale / "train.parquet").write_bytes(b"half")
    written = to(original.path, tmp_path / "new", "npy")
    assert verify_dataset(written.path).findings == ()
    assert not stale.exists()
