from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokpack.batches import TokenBatch, offsets_from_lengths
from tokpack.errors import UsageError
from tokpack.tokenizers.boundaries import with_boundaries

IDS = st.one_of(st.none(), st.integers(0, 2**32 - 1))


@given(
    documents=st.lists(st.lists(st.integers(0, 2**16 - 1), max_size=4), max_size=6),
    bos_id=IDS,
    eos_id=IDS,
    dtype=st.sampled_from([np.uint16, np.uint32]),
)
def test_against_lists(documents, bos_id, eos_id, dtype):
    flat = np.array([token for document in documents for token in document], dtype=dtype)
    mask = (flat % 2).astype(np.uint8)
    batch = TokenBatch(flat, offsets_from_lengths(map(len, documents), len(documents)), {"loss_mask": mask})
    got = with_boundaries(batch, bos_id=bos_id, eos_id=eos_id)
    before, after = ([] if token_id is None else [token_id] for token_id in (bos_id, eos_id))
    assert [tokens.tolist() for tokens in got] == [before + document + after for document in documents]
    masks = [
        [document[0] % 2 if document else 0] * len(before)
        + [token % 2 for token in document]
        + [document[-1] % 2 if document else 0] * len(after)
        for document in documents
    ]
    assert got.columns["loss_mask"].tolist() == [value for mask in masks for value in mask]
    assert got.columns["loss_mask"].dtype == np.uint8
    assert got.offsets.dtype == np.int64
    wide = max(bos_id or 0, eos_id or 0) >= 2**16
    assert got.tokens.dtype == (np.uint32 if wide else dtype)


def test_nothing_to_add_is_no_copy():
    batch = TokenBatch.from_documents([[1, 2], []])
    assert with_boundaries(batch) is batch


def test_a_template_stands_inside_of_bos_and_eos():
    batch = TokenBatch.from_documents([[1, 2], []])
    got = with_boundaries(batch, bos_id=5, eos_id=6, template=([7, 8], [9]))
    assert [tokens.tolist() for tokens in got] == [[5, 7, 8, 1, 2, 9, 6], [5, 7, 8, 9, 6]]


def test_arguments_are_left_alone():
    batch = TokenBatch.from_documents([[1, 2], []])
    with_boundaries(batch, bos_id=5, eos_id=6)
    assert batch.tokens.tolist() == [1, 2]
    assert batch.offsets.tolist() == [0, 2, 2]


@pytest.mark.parametrize("bad", [-1, 2**32])
def test_ids_out_of_range(bad):
    with pytest.raises(UsageError, match=rf"\[{bad}\].*must lie between 0"):
        with_boundaries(TokenBatch.from_documents([[1]]), eos_id=bad)
