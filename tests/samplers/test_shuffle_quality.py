"""Our shuffle passes the battery; shuffles with known defects, and ours with two rounds, do not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tokpack.samplers import permutation
from tokpack.samplers.permutation import EpochOrder

_spec = importlib.util.spec_from_file_location("battery", Path(__file__).with_name("battery.py"))
assert _spec is not None
assert _spec.loader is not None
battery = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(battery)

SIZES = [1 << 20, 732_421, 1_000_000, 240_000_000]
PREFIX = 1 << 15


def ours(size: int, prefix: int, seed: int) -> np.ndarray:
    epoch = seed % 3  # later epochs as well as the first
    order = EpochOrder(size, seed=seed, stream="battery")
    return order.items(np.arange(order.rows_before(epoch), order.rows_before(epoch) + prefix))


def affine(size: int, prefix: int, seed: int) -> np.ndarray:
    """Levanter's "linear" permutation: i -> a * i + c modulo size."""
    rng = np.random.default_rng(seed)
    while np.gcd(a := int(rng.integers(1, size)), size) != 1:
        pass
    return (a * np.arange(prefix) + int(rng.integers(size))) % size


def affine_feistel(size: int, prefix: int, seed: int) -> np.ndarray:
    """A Feistel network of five rounds whose round function is affine, walking on outside of the size."""
    rng = np.random.default_rng(seed)
    half = (size - 1).bit_length() + 1 >> 1
    mask = (1 << half) - 1
    keys = rng.integers(1, 1 << half, (5, 2))

    def once(values: np.ndarray) -> np.ndarray:
        left, right = values >> half, values & mask
        for a, c in keys:
            left, right = right, left ^ (a * right + c & mask)
        return left << half | right

    values = once(np.arange(prefix))
    while len(outside := np.flatnonzero(values >= size)):
        values[outside] = once(values[outside])
    return values


def test_our_order_is_like_a_true_permutation() -> None:
    assert battery.failures(ours, SIZES, prefix=PREFIX, seeds=6, references=60) == []


@pytest.mark.nightly
def test_our_order_is_like_a_true_permutation_at_length() -> None:
    assert battery.failures(ours, SIZES, prefix=1 << 20, seeds=24, references=400) == []


def test_small_orders_are_like_true_permutations() -> None:
    assert battery.failures(ours, [4096, 5000, 32_769], prefix=PREFIX, seeds=10, references=60) == []


@pytest.mark.parametrize("defective", [affine, affine_feistel])
def test_the_battery_finds_published_defects(defective) -> None:
    assert len(battery.failures(defective, SIZES[:2], prefix=PREFIX, seeds=2, references=60)) >= 4


def test_the_battery_finds_too_few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permutation, "_ROUNDS", 2)
    assert battery.failures(ours, SIZES[:2], prefix=PREFIX, seeds=2, references=60)


def test_the_battery_accepts_true_permutations() -> None:
    def fresh(size: int, prefix: int, seed: int) -> np.ndarray:
        return battery.true_order(size, prefix, seed + 10_000)

    assert battery.failures(fresh, SIZES[1:2], prefix=PREFIX, seeds=20, references=60) == []
