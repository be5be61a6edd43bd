"""The pieces of encoding on their own: order of inputs, units, length limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokpack.batches import TokenBatch, iter_ranges, offsets_from_lengths
from tokpack.encoding.lengths import limit_length
from tokpack.encoding.options import EncodeOptions
from tokpack.encoding.pieces import PieceWriter, is_intact
from tokpack.encoding.plan import make_plan
from tokpack.protocols import Slice
from tokpack.sources.inputs import InputFile

documents = st.lists(st.lists(st.integers(0, 999), max_size=30), max_size=15)


@given(documents, st.integers(1, 12))
def test_split_loses_nothing_and_moves_nothing(texts: list[list[int]], limit: int) -> None:
    batch = TokenBatch.from_documents(texts)
    limited = limit_length(batch, limit, "split")
    assert np.array_equal(limited.batch.tokens, batch.tokens)
    pieces = iter(limited.batch)
    for text, count in zip(texts, limited.stored.tolist(), strict=True):
        expected = [text[at : at + limit] for at in range(0, len(text), limit)] or [[]]
        assert [next(pieces).tolist() for _ in range(count)] == expected
    assert next(pieces, None) is None


@given(documents, st.integers(1, 12))
def test_truncate_and_skip(texts: list[list[int]], limit: int) -> None:
    batch = TokenBatch.from_documents(texts)
    cut = limit_length(batch, limit, "truncate")
    assert [piece.tolist() for piece in cut.batch] == [text[:limit] for text in texts]
    assert cut.tokens_cut == sum(max(0, len(text) - limit) for text in texts)
    kept = limit_length(batch, limit, "skip")
    assert [piece.tolist() for piece in kept.batch] == [text for text in texts if len(text) <= limit]
    assert kept.too_long.tolist() == [len(text) > limit for text in texts]


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 60))
def test_ranges_cover_everything_once(lengths: list[int], size: int) -> None:
    offsets = offsets_from_lengths(lengths, len(lengths))
    ranges = list(iter_ranges(offsets, size))
    assert [index for first, last in ranges for index in range(first, last)] == list(range(len(lengths)))
    assert all(last == first + 1 or offsets[last] - offsets[first] <= size for first, last in ranges)


class _Source:
    def plan(self, path: str, *, slice_bytes: int) -> list[Slice]:
        size = int(path)
        return [
            Slice(path, at, min(at + slice_bytes, size), at, min(at + slice_bytes, size))
            for at in range(0, size, slice_bytes)
        ]

    def describe(self, path: str) -> str:
        return "sliced"


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=20),
    st.integers(1, 200),
    st.one_of(st.none(), st.integers(1, 10)),
)
def test_units_share_out_all_bytes_in_order(
    sizes: list[int], unit_bytes: int, num_shards: int | None
) -> None:
    files = [InputFile(str(size), f"f{index}", "text", "train", size) for index, size in enumerate(sizes)]
    options = EncodeOptions(tokenizer="byte", unit_bytes=unit_bytes, num_shards=num_shards)
    if num_shards is not None and num_shards > sum(sizes):
        return
    plan = make_plan(files, {"text": _Source()}, options)
    covered = [(part.source, part.slice.start, part.slice.stop) for unit in plan.units for part in unit.parts]
    for index, size in enumerate(sizes):
        ranges = [(start, stop) for source, start, stop in covered if source == index]
        assert [stop for _, stop in ranges][:-1] == [start for start, _ in ranges][1:]
        assert (ranges[0][0], ranges[-1][1]) == (0, size)
    assert [unit.index for unit in plan.units] == list(range(len(plan.units)))
    if num_shards is not None:
        shards = [unit.shard for unit in plan.units]
        assert shards == sorted(shards)
        assert set(shards) == set(range(num_shards))


def test_more_shards_than_parts_is_refused() -> None:
    from tokpack.errors import UsageError

    files = [InputFile("3", "f", "text", "train", 3)]
    with pytest.raises(UsageError, match="can only be cut into"):
        make_plan(files, {"text": _Source()}, EncodeOptions(tokenizer="byte", num_shards=4))


def test_a_piece_that_a_crash_has_torn_is_found(tmp_path: Path) -> None:
    """Of its size or not: a piece is never synced, so after a power cut anything may stand in it."""
    writer = PieceWriter(tmp_path, "train")
    writer.write(TokenBatch.from_documents([[1, 2, 3], [], [4, 5]]), 10)
    info = writer.close()
    assert is_intact(tmp_path, "train", info)
    for name in info.checksums:
        path = tmp_path / f"train.{name}"
        content = path.read_bytes()
        for torn in (bytes(len(content)), content[:-1] + b"\xff", content[:-1], content + b"\0", b""):
            path.write_bytes(torn)
            assert not is_intact(tmp_path, "train", info), (name, torn)
        path.write_bytes(content)
    assert is_intact(tmp_path, "train", info)
    (tmp_path / "train.lengths").unlink()
    assert not is_intact(tmp_path, "train", info)
