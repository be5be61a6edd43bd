"""Stores: many shards as one axis of tokens."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokpack
from tokpack.batches import TokenBatch
from tokpack.dataset.digest import BLOCK_BYTES, LogicalDigest
from tokpack.dataset.store import ArrayStore, Dataset
from tokpack.errors import DamagedError, UsageError

TEXTS = [f"{'x' * (number % 13)} document {number}" for number in range(200)]


@pytest.fixture(scope="module", params=[None, 1, 100, 1000])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("store")
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return tokpack.encode(folder / "a.jsonl", folder / "set", tokenizer="byte", shard_bytes=request.param)


EXPECTED = np.concatenate([[*text.encode(), 256] for text in TEXTS]).astype(np.uint16)


def test_reading(dataset: Dataset) -> None:
    store = dataset["train"]
    assert len(store) == len(EXPECTED)
    assert np.array_equal(store.tokens(), EXPECTED)
    assert np.array_equal(store.tokens(0, 1000), EXPECTED[:1000])
    assert store.offsets.tolist() == [0, *np.cumsum([len(text) + 1 for text in TEXTS]).tolist()]
    for index, text in enumerate(TEXTS):
        assert bytes(store.document(index)[:-1].astype(np.uint8)).decode() == text
    rng = np.random.default_rng(0)
    for start, stop in np.sort(rng.integers(0, len(EXPECTED) + 1, (200, 2))).tolist():
        assert np.array_equal(store.read(start, stop), EXPECTED[start:stop])


def test_gathering_windows(dataset: Dataset) -> None:
    store = dataset["train"]
    rng = np.random.default_rng(1)
    for length in (1, 7, 64, len(EXPECTED)):
        starts = rng.integers(0, len(EXPECTED) - length + 1, 50)
        out = np.zeros((50, length), store.dtype)
        store.gather(starts, out)
        assert np.array_equal(out, np.stack([EXPECTED[start : start + length] for start in starts]))


def test_batches_hold_whole_documents_in_order(dataset: Dataset) -> None:
    batches = list(dataset["train"].batches(tokens=64))
    assert np.array_equal(np.concatenate([batch.tokens for batch in batches]), EXPECTED)
    assert sum(len(batch) for batch in batches) == len(TEXTS)
    assert all(batch.tokens[end - 1] == 256 for batch in batches for end in batch.offsets[1:])


def test_the_digest_is_of_documents_alone(dataset: Dataset) -> None:
    assert (
        dataset["train"].fingerprint
        == ArrayStore(EXPECTED, dataset["train"].offsets, vocab_size=257).fingerprint
    )


def test_what_is_not_there_is_named(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="no split 'test'; it has: train"):
        dataset["test"]
    with pytest.raises(UsageError, match="document 200 does not exist; train holds 200 documents"):
        dataset["train"].document(200)
    with pytest.raises(UsageError, match="no column 'loss_mask'"):
        dataset["train"].column("loss_mask")


def test_a_changed_size_is_seen_at_first_use(dataset: Dataset) -> None:
    name = dataset.manifest.splits["train"].shards[-1].file.name
    content = (dataset.path / name).read_bytes()
    (dataset.path / name).write_bytes(content[:-2])
    try:
        with pytest.raises(DamagedError, match="tokpack verify"):
            tokpack.open_dataset(dataset.path)["train"].tokens()
    finally:
        (dataset.path / name).write_bytes(content)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Not even to the very content that must be there."""
    (tmp_path / "a.txt").write_text("text")
    tokpack.encode(tmp_path / "a.txt", tmp_path / "set", tokenizer="byte")
    (tmp_path / "set" / "train.bin").rename(tmp_path / "elsewhere")
    (tmp_path / "set" / "train.bin").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedError, match="not a regular file"):
        tokpack.open_dataset(tmp_path / "set")["train"].tokens()


def test_a_stored_tokenizer_decodes_offline(dataset: Dataset) -> None:
    assert dataset.open_tokenizer().decode_bytes(dataset["train"].document(3)[:-1]) == TEXTS[3].encode()


def reference_digest(batch: TokenBatch, width: int) -> str:
    """The definition in docs/reference/manifest.md, written down once more."""
    total = hashlib.sha256()
    tokens = batch.tokens.astype(f"<u{width}").tobytes()
    lengths = np.diff(batch.offsets).astype("<i8").tobytes()
    for name, stream in (("tokens", tokens), ("lengths", lengths)):
        total.update(name.encode() + b"\0" + len(stream).to_bytes(8, "little"))
        for start in range(0, len(stream), BLOCK_BYTES):
            total.update(hashlib.sha256(stream[start : start + BLOCK_BYTES]).digest())
    return total.hexdigest()


@given(
    documents=st.lists(st.lists(st.integers(0, 65535), max_size=20), max_size=20),
    cuts=st.lists(st.integers(0, 20), max_size=5),
)
@settings(deadline=None)
def test_the_digest_does_not_depend_on_batches_or_dtype(documents: list[list[int]], cuts: list[int]) -> None:
    whole = TokenBatch.from_documents(documents)
    edges = sorted({0, len(documents), *(cut for cut in cuts if cut < len(documents))})
    narrow = LogicalDigest(65536)
    for first, last in itertools.pairwise(edges):
        part = TokenBatch.from_documents(documents[first:last])
        narrow.update(TokenBatch(part.tokens.astype(np.uint16), part.offsets))
    assert narrow.hexdigest() == reference_digest(whole, 2)


def test_the_digest_of_several_blocks() -> None:
    rng = np.random.default_rng(2)
    tokens = rng.integers(0, 100_000, 1_700_000, dtype=np.uint32)
    offsets = np.array([0, 5, 5, 1_000_000, 1_700_000], dtype=np.int64)
    digest = LogicalDigest(100_000)
    batch = TokenBatch(tokens, offsets)
    digest.update(batch)
    assert digest.hexdigest() == reference_digest(batch, 4)
