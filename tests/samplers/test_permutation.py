"""The keyed order: one to one, invertible, pinned by golden vectors, the same however it is asked for."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokpack.samplers.permutation import (
    BLOCK,
    MAX_SIZE,
    Blocked,
    EpochOrder,
    derive_key,
    epoch_keys,
    invert,
    mix64,
    permute,
)


def keys_of(seed: int, epoch: int = 0) -> np.ndarray:
    return epoch_keys(derive_key(seed, "test"), np.array([epoch]))


@pytest.mark.parametrize("size", [*range(1, 200), 65_535, 65_536, 65_537, 1_000_003])
def test_is_one_to_one_and_invertible(size: int) -> None:
    for seed in range(3 if size < 1000 else 1):
        keys = keys_of(seed)
        order = permute(np.arange(size), size, keys)
        assert np.array_equal(np.sort(order), np.arange(size))
        assert np.array_equal(invert(order, size, keys), np.arange(size))


@given(
    st.integers(1, MAX_SIZE), st.integers(-(2**70), 2**70), st.lists(st.floats(0, 1), min_size=1, max_size=20)
)
def test_huge_domains_stay_inside_and_invert(size: int, seed: int, places: list[float]) -> None:
    indices = np.array([min(size - 1, int(place * size)) for place in places], dtype=np.int64)
    keys = keys_of(seed)
    items = permute(indices, size, keys)
    assert items.min() >= 0
    assert items.max() < size
    assert np.array_equal(invert(items, size, keys), indices)


@pytest.mark.parametrize("size", [0, -1, MAX_SIZE + 1])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="must have 1 to"):
        permute(np.array([0]), size, keys_of(0))


def test_splitmix64_finaliser_agrees_with_its_published_sequence() -> None:
    # The first outputs of SplittableRandom seeded with 0 and 1234567.
    gamma = np.uint64(0x9E3779B97F4A7C15)
    for seed, expected in [
        (0, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]),
        (1234567, [6457827717110365317, 3203168211198807973, 9817491932198370423]),
    ]:
        states = np.arange(1, 4, dtype=np.uint64) * gamma + np.uint64(seed)
        assert mix64(states).tolist() == expected


def test_golden_vectors_pin_the_order() -> None:
    """A change here breaks resuming on every machine: raise ORDER_VERSION instead."""
    assert derive_key(0, "random-block/1") == GOLDEN_KEY
    for (size, seed, epoch), expected in GOLDEN_ORDERS.items():
        assert permute(np.arange(len(expected)), size, keys_of(seed, epoch)).tolist() == expected


GOLDEN_KEY = 4169248736892084696
GOLDEN_ORDERS: dict[tuple[int, int, int], list[int]] = {
    (5, 0, 0): [3, 1, 4, 0, 2],
    (8, 0, 0): [3, 2, 4, 7, 1, 5, 0, 6],
    (8, 0, 1): [2, 0, 3, 4, 6, 1, 7, 5],
    (8, 1, 0): [1, 0, 6, 5, 2, 4, 7, 3],
    (1000, 0, 0): [546, 604, 581, 960, 116, 744, 31, 341],
    (1048576, 7, 3): [860099, 694664, 966211, 500731, 276018, 247976, 837567, 155039],
    (732421, 123456789, 2): [122858, 381700, 174961, 362046, 165969, 707770, 494404, 487953],
    (1000000000000, 0, 0): [
        107710838586,
        393480010199,
        652751466882,
        670998028225,
        604648445548,
        959084213504,
        701071869040,
        200299691154,
    ],
    (4611686018427387904, -1, 1000000): [
        4453915965234246885,
        1200508321183504443,
        4251736647872807555,
        2961209226997433832,
        1876892684086442254,
        4076159669001816556,
        3376960137819762875,
        4569212575633707117,
    ],
}


@settings(max_examples=50)
@given(st.integers(1, 300), st.integers(0, 5), st.booleans(), st.data())
def test_order_is_a_pure_function_of_the_row(
    size: int, seed: int, shuffle: bool, data: st.DataObject
) -> None:
    def opened() -> EpochOrder:
        return EpochOrder(size, seed=seed, stream="s", shuffle=shuffle)

    order = opened()
    rows = data.draw(st.lists(st.integers(0, 20_000), min_size=1, max_size=40).map(np.array))
    alone = [
        int(EpochOrder(size, seed=seed, stream="s", shuffle=shuffle).items(rows[i : i + 1])[0])
        for i in range(len(rows))
    ]
    assert order.items(rows).tolist() == alone
    epoch = int(rows[0]) // size
    assert order.row_of(alone[0], epoch) == rows[0]


def test_every_epoch_shows_every_item_once_in_another_order() -> None:
    order = EpochOrder(1000, seed=0, stream="s")
    epochs = order.items(np.arange(5000)).reshape(5, 1000)
    assert np.array_equal(np.sort(epochs, axis=1), np.broadcast_to(np.arange(1000), (5, 1000)))
    assert len({epoch.tobytes() for epoch in epochs}) == 5
    assert order.rows_before(3) == 3000


def test_seed_epoch_and_stream_are_mixed_not_added() -> None:
    def first(seed: int, epoch: int, stream: str) -> bytes:
        rows = np.arange(epoch * 500, epoch * 500 + 500)
        return EpochOrder(500, seed=seed, stream=stream).items(rows).tobytes()

    orders = [first(seed, epoch, stream) for seed in range(4) for epoch in range(4) for stream in "ab"]
    assert len(set(orders)) == len(orders)


def test_blocks_are_computed_once_and_pickle() -> None:
    order = EpochOrder(10_000, seed=0, stream="s")
    rows = np.arange(BLOCK - 5, BLOCK + 5)
    across = order.items(rows)
    assert np.array_equal(across, np.concatenate([order.items(rows[:5]), order.items(rows[5:])]))
    assert np.array_equal(pickle.loads(pickle.dumps(order)).items(rows), across)
    calls: list[int] = []

    def counted(block: np.ndarray) -> np.ndarray:
        calls.append(len(block))
        return block * 2

    blocked = Blocked(counted)
    for row in range(100):
        assert blocked(np.array([row]))[0] == row * 2
    assert calls == [BLOCK]
    assert blocked(np.empty(0, np.int64)).tolist() == []
