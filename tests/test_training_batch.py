"""Batch: labels, positions and segment bounds against the definition, token by token."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tokpack.batches import IGNORED_LABEL, Batch


def rows_of_segments(lengths: list[list[int]], width: int) -> np.ndarray:
    segments = np.zeros((len(lengths), width), np.uint16)
    for row, row_lengths in zip(segments, lengths, strict=True):
        ids = np.repeat(np.arange(1, len(row_lengths) + 1), row_lengths)[:width]
        row[: len(ids)] = ids
    return segments


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=5), st.integers(1, 20))
def test_derived_arrays_follow_their_definitions(lengths: list[list[int]], seq_len: int) -> None:
    segments = rows_of_segments(lengths, seq_len + 1)
    tokens = np.random.default_rng(0).integers(0, 65_536, segments.shape).astype(np.uint16)
    mask = (tokens % 3 > 0).astype(np.uint8)
    batch = Batch(tokens, segments, mask)
    labels, positions, bounds = batch.labels(), batch.position_ids(), batch.cu_seqlens().tolist()
    expected_bounds = []
    for i in range(len(batch)):
        position = 0
        for j in range(seq_len):
            new = j == 0 or segments[i, j] != segments[i, j - 1]
            position = 0 if new else position + 1
            if new:
                expected_bounds.append(i * seq_len + j)
            follows = segments[i, j] == segments[i, j + 1] != 0
            counts = follows and mask[i, j + 1]
            assert labels[i, j] == (tokens[i, j + 1] if counts else IGNORED_LABEL)
            assert positions[i, j] == position
    assert bounds == [*expected_bounds, len(batch) * seq_len]


def test_rows_without_segments() -> None:
    batch = Batch(np.arange(10, dtype=np.uint32).reshape(2, 5))
    assert batch.seq_len == 4
    assert batch.input_ids.tolist() == [[0, 1, 2, 3], [5, 6, 7, 8]]
    assert batch.labels().tolist() == [[1, 2, 3, 4], [6, 7, 8, 9]]
    assert batch.position_ids().tolist() == [[0, 1, 2, 3]] * 2
    assert batch.cu_seqlens().tolist() == [0, 4, 8]
    assert np.shares_memory(batch[1:].input_ids, batch.tokens)


def test_empty_makes_room_for_segments_only_where_asked() -> None:
    assert Batch.empty(2, 3, np.dtype(np.uint16)).segment_ids is None
    assert Batch.empty(2, 3, np.dtype(np.uint16)).loss_mask is None
    assert Batch.empty(2, 3, np.dtype(np.uint16), masked=True).loss_mask.shape == (2, 4)
    batch = Batch.empty(2, 3, np.dtype(np.uint16), segmented=True)
    assert batch.segment_ids is not None
    assert batch.tokens.shape == batch.segment_ids.shape == (2, 4)
    assert batch[:1].segment_ids is not None
