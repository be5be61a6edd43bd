"""The keyed order: one to one, invertible, pinned by golden vectors, the same however it is asked for."""

from __future__ import annotations

import math
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

SEEDS = st.integers(-(2**70), 2**70)
PLACES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def keys_of(seed: int, epoch: int = 0) -> np.ndarray:
    return epoch_keys(derive_key(seed, "test"), np.array([epoch]))


@pytest.mark.parametrize("size", [*range(1, 200), 65_535, 65_536, 65_537, 1_000_003])
def test_is_one_to_one_and_invertible(size: int) -> None:
    for seed in range(3 if size < 1000 else 1):
        keys = keys_of(seed)
        order = permute(np.arange(size), size, keys)
        assert np.array_equal(np.sort(order), np.arange(size))
        assert np.array_equal(invert(order, size, keys), np.arange(size))


@given(st.integers(1, MAX_SIZE), SEEDS, PLACES)
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


def permute_one(index: int, size: int, keys: list[int]) -> int:
    """The definition in plain integers, one value at a time."""
    root = math.isqrt(size - 1) + 1
    skew = min(math.isqrt(root * root - size), root // 8)
    a, b = root + skew, root - skew

    def hash_below(value: int, key: int, bound: int) -> int:
        value ^= key
        value = (value ^ value >> 16) * 0x7FEB352D % 2**32
        value = (value ^ value >> 15) * 0x846CA68B % 2**32
        return value * bound >> 32

    while True:
        left, right = divmod(index, b)
        for turn in (0, 2, 4):
            left = (left + hash_below(right, keys[turn], a)) % a
            right = (right + hash_below(left, keys[turn + 1], b)) % b
        index = left * b + right
        if index < size:
            return index


@given(st.integers(1, MAX_SIZE) | st.integers(1, 1000), SEEDS, st.integers(0, 10**9), PLACES)
def test_agrees_with_the_definition(size: int, seed: int, epoch: int, places: list[float]) -> None:
    indices = [min(size - 1, int(place * size)) for place in places]
    keys = keys_of(seed, epoch)
    expected = [permute_one(index, size, keys[:, 0].tolist()) for index in indices]
    assert permute(np.array(indices), size, keys).tolist() == expected


def test_golden_vectors_pin_the_order() -> None:
    """A change here breaks resuming on every machine: raise ORDER_VERSION instead."""
    assert derive_key(0, "random-block/1") == GOLDEN_KEY
    for (size, seed, epoch), expected in GOLDEN_ORDERS.items():
        assert permute(np.arange(len(expected)), size, keys_of(seed, epoch)).tolist() == expected


GOLDEN_KEY = 4169248736892084696
GOLDEN_ORDERS: dict[tuple[int, int, int], list[int]] = {
    (5, 0, 0): [3, 2, 4, 0, 1],
    (8, 0, 0): [3, 2, 4, 7, 1, 5, 0, 6],
    (8, 0, 1): [2, 0, 3, 4, 6, 1, 7, 5],
    (8, 1, 0): [1, 0, 6, 5, 2, 4, 7, 3],
    (1000, 0, 0): [18, 833, 328, 835, 747, 847, 998, 436],
    (1048576, 7, 3): [860099, 694664, 966211, 500731, 276018, 247976, 837567, 155039],
    (732421, 123456789, 2): [450792, 315363, 75064, 419209, 514393, 129315, 47775, 318060],
    (1000000000000, 0, 0): [119223283998, 323192672263, 132407050799, 617106197507],
    (4611686018427387904, -1, 1000000): [
        2833430862883956512,
        2201089040228149405,
        3938410480964469027,
        4054366549171761667,
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
