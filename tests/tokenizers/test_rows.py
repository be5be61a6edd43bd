"""The row functions against plain Python on lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokpack.batches import TokenBatch
from tokpack.errors import UsageError
from tokpack.tokenizers.rows import pad_batch, surround_batch, truncate_batch

DOCUMENTS = st.lists(st.lists(st.integers(0, 65535), max_size=9), max_size=7)
SIDES = st.sampled_from(["left", "right"])


def batch_of(documents: list[list[int]]) -> TokenBatch:
    plain = TokenBatch.from_documents(documents)
    # A column that tells every token from its neighbours: its place in the batch, from 1.
    return TokenBatch(plain.tokens, plain.offsets, {"place": np.arange(1, len(plain.tokens) + 1)})


def lists(batch: TokenBatch) -> tuple[list[list[int]], list[list[int]]]:
    places = TokenBatch(batch.columns["place"], batch.offsets)
    return [document.tolist() for document in batch], [document.tolist() for document in places]


@given(DOCUMENTS, st.integers(0, 9), SIDES)
def test_truncated_documents_are_slices(documents, length, side):
    whole, places = lists(batch_of(documents))
    cut = truncate_batch(batch_of(documents), length, side=side)

    def kept(row):
        return row[:length] if side == "right" else row[max(len(row) - length, 0) :]

    assert lists(cut) == ([kept(row) for row in whole], [kept(row) for row in places])


@given(DOCUMENTS, st.lists(st.integers(0, 9), max_size=3), st.lists(st.integers(0, 9), max_size=3))
def test_surrounded_documents_are_sums_of_lists(documents, prefix, suffix):
    whole, places = lists(batch_of(documents))
    rows, columns = lists(surround_batch(batch_of(documents), prefix=prefix, suffix=suffix))
    assert rows == [[*prefix, *row, *suffix] for row in whole]
    assert columns == [
        [row[0] if row else 0] * len(prefix) + row + [row[-1] if row else 0] * len(suffix) for row in places
    ]


@given(DOCUMENTS, SIDES, st.sampled_from(["longest", "max_length"]), st.integers(1, 5))
def test_padded_rows(documents, side, padding, multiple):
    padded = pad_batch(
        batch_of(documents), pad_id=7, padding=padding, max_length=9, side=side, multiple_of=multiple
    )
    longest = max(map(len, documents), default=0) if padding == "longest" else 9
    width = next(size for size in range(longest, longest + 5) if size % multiple == 0)
    _, places = lists(batch_of(documents))

    def filled(row, filler):
        fill = [filler] * (width - len(row))
        return row + fill if side == "right" else fill + row

    assert padded.input_ids.shape == padded.attention_mask.shape == (len(documents), width)
    assert padded.input_ids.tolist() == [filled(row, 7) for row in documents]
    assert padded.attention_mask.tolist() == [filled([1] * len(row), 0) for row in documents]
    assert padded.columns["place"].tolist() == [filled(row, 0) for row in places]


def test_rows_of_one_length_need_no_padding():
    padded = pad_batch(TokenBatch.from_documents([[1, 2], [3, 4]]), pad_id=None, padding="none")
    assert padded.input_ids.tolist() == [[1, 2], [3, 4]]


def test_what_cannot_be_laid_out_is_refused():
    uneven = TokenBatch.from_documents([[1, 2], [3]])
    with pytest.raises(UsageError, match="different length"):
        pad_batch(uneven, pad_id=0, padding="none")
    with pytest.raises(UsageError, match="no padding token"):
        pad_batch(uneven, pad_id=None)
    with pytest.raises(UsageError, match="needs a max_length"):
        pad_batch(uneven, pad_id=0, padding="max_length")
    with pytest.raises(UsageError, match="truncate_batch"):
        pad_batch(uneven, pad_id=0, padding="max_length", max_length=1)
    with pytest.raises(UsageError, match="0 or more"):
        truncate_batch(uneven, -1)
    with pytest.raises(UsageError, match="multiple_of"):
        pad_batch(uneven, pad_id=0, multiple_of=0)
