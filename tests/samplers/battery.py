"""A test battery for shuffles: statistics of an order, and the band in which true permutations keep them.

The statistics are those on which published O(1) shuffles fail (research page "samplers and training",
section B): parity, correlation at some lags, distinct successive differences, blocks, low bits. None is
compared with a textbook distribution, since the values of a permutation depend on each other; each is
compared with the same statistic of true permutations, at a level divided by the number of comparisons.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from statistics import NormalDist

import numpy as np

Order = Callable[[int, int, int], np.ndarray]  # (size, prefix, seed) -> the first `prefix` items

LAGS = (1, 2, 4, 64)
BLOCKS = 64
WINDOW = 512


def statistics(items: np.ndarray, size: int) -> dict[str, float]:
    """Return the statistics of the first items of an order of ``size``; each is about normal."""
    count = len(items)
    centred = items - items.mean()
    scale = np.sqrt(count) / np.dot(centred, centred)
    found = {f"lag {lag}": float(np.dot(centred[:-lag], centred[lag:]) * scale) for lag in LAGS}
    found["order"] = float(np.dot(centred, np.arange(count) - (count - 1) / 2)) / count / size
    found["parity"] = float(np.where((items ^ np.arange(count)) & 1, -1, 1).sum()) / np.sqrt(count)
    steps = np.sort(np.diff(items) % size)
    found["distinct steps"] = float(np.count_nonzero(np.diff(steps)))
    # How evenly 512 successive items fall into 64 blocks: a shuffle may be too even as well as too uneven.
    windows = (items[: count // WINDOW * WINDOW] * BLOCKS // size).reshape(-1, WINDOW)
    cells = np.arange(len(windows))[:, None] * BLOCKS + windows
    found["blocks"] = _unevenness(np.bincount(cells.ravel(), minlength=len(windows) * BLOCKS))
    found["low bits"] = np.sqrt(_unevenness(np.bincount(np.arange(count) % 8 * 8 + items % 8, minlength=64)))
    places = np.arange(count) * BLOCKS // count * BLOCKS + items * BLOCKS // size
    found["places"] = _unevenness(np.bincount(places, minlength=BLOCKS * BLOCKS))
    return found


def _unevenness(counts: np.ndarray) -> float:
    mean = counts.mean()
    return float(((counts - mean) ** 2).sum() / mean)


def true_order(size: int, prefix: int, seed: int) -> np.ndarray:
    """The first items of a true random permutation."""
    rng = np.random.default_rng([seed, size])
    if size < 4 * prefix:
        return rng.permutation(size)[:prefix].astype(np.int64)
    return rng.choice(size, prefix, replace=False).astype(np.int64)


@cache
def _bands(size: int, prefix: int, references: int) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of each statistic over true permutations."""
    found = [statistics(true_order(size, prefix, seed), size) for seed in range(references)]
    columns = {name: np.array([statistic[name] for statistic in found]) for name in found[0]}
    return {name: (float(values.mean()), float(values.std(ddof=1))) for name, values in columns.items()}


def failures(
    order: Order, sizes: list[int], *, prefix: int, seeds: int, references: int, level: float = 0.001
) -> list[str]:
    """Return what leaves the band of true permutations, at ``level`` for all comparisons together."""
    outside: list[tuple[str, float]] = []
    comparisons = 0
    for size in sizes:
        count = min(prefix, size)
        bands = _bands(size, count, references)
        for seed in range(seeds):
            for name, value in statistics(order(size, count, seed), size).items():
                mean, deviation = bands[name]
                outside.append((f"{name} of {size:,} seed {seed}", (value - mean) / deviation))
                comparisons += 1
    limit = NormalDist().inv_cdf(1 - level / comparisons / 2)
    return [f"{name}: {deviation:+.1f} sigma" for name, deviation in outside if abs(deviation) > limit]
