"""Groups of documents that do not depend on how the documents arrived."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokpack.batches import TokenBatch
from tokpack.errors import DocumentError
from tokpack.formats import groups as module
from tokpack.formats.groups import Groups


def batch_of(documents: list[list[int]]) -> TokenBatch:
    batch = TokenBatch.from_documents(documents)
    return TokenBatch(batch.tokens, batch.offsets, {"twice": batch.tokens * 2})


def gather(groups: Groups, batches: list[TokenBatch]) -> list[TokenBatch]:
    found = [group for batch in batches for group in groups.add(batch)]
    return found if (rest := groups.rest()) is None else [*found, rest]


@given(
    st.lists(st.lists(st.lists(st.integers(0, 99), max_size=9), max_size=5), max_size=6),
    st.integers(1, 20),
)
def test_groups_depend_on_documents_alone(batches: list[list[list[int]]], tokens: int) -> None:
    documents = [document for batch in batches for document in batch]
    expected: list[list[list[int]]] = [[]]
    for document in documents:
        expected[-1].append(document)
        if sum(map(len, expected[-1])) >= tokens:
            expected.append([])
    found = gather(Groups(tokens), [batch_of(batch) for batch in batches])
    assert [[list(document) for document in group] for group in found] == [
        group for group in expected if group
    ]
    for group in found:
        np.testing.assert_array_equal(group.columns["twice"], group.tokens * 2)


def test_empty_documents_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_DOCUMENTS", 3)
    found = gather(Groups(10), [batch_of([[]] * 2), batch_of([[]] * 5)])
    assert [len(group) for group in found] == [3, 3, 1]


def test_offsets_never_pass_32_bits() -> None:
    """The limit is lowered to 1,000: no group can reach twice that, as one real group cannot reach 2**31."""
    groups = Groups(1000, max_tokens=1000)
    found = gather(groups, [batch_of([[1] * 999, [2] * 1000, [3] * 1000])])
    assert [len(group.tokens) for group in found] == [1999, 1000]
    with pytest.raises(DocumentError, match="1,001 tokens"):
        list(groups.add(batch_of([[1] * 1001])))
    assert 2 * module.MAX_GROUP_TOKENS - 1 < 2**31
