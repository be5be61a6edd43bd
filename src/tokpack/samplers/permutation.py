"""Shuffles without memory: a keyed bijection of the row number, computed where it is needed.

The bijection of [0, size) is an unbalanced Feistel network on pairs (left, right) with left < a, right < b
and a·b just above ``size`` (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002, method 3);
pairs that fall outside walk on until they are inside. Its six rounds use a 32-bit hash of full avalanche:
fewer rounds, or an affine round, leave correlations that a test battery finds (`tests/samplers/battery.py`).

The order is part of what a training run can be resumed from, so every constant here is pinned by golden
vectors. A change of any of them is a new `ORDER_VERSION`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import blake2b
from math import isqrt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "ORDER_VERSION", "Blocked", "EpochOrder", "derive_key", "epoch_keys", "mix64", "permute"]

#: Names the whole scheme; stands in the state of every loader.
ORDER_VERSION = 1
#: Rows whose order is computed at once: enough to hide NumPy's call overhead, few enough for the L2 cache.
BLOCK = 1 << 13
#: Largest domain; both halves must fit 31 bits.
MAX_SIZE = 1 << 62

_ROUNDS = 6
_Rows: TypeAlias = NDArray[np.int64]
_Keys: TypeAlias = NDArray[np.uint32]


def derive_key(seed: int, *parts: int | str) -> int:
    """Return 64 bits that depend on every part; seeds that differ by one share nothing."""
    return int.from_bytes(blake2b(json.dumps([seed, *parts]).encode(), digest_size=8).digest(), "little")


def mix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash 64-bit integers one to one, by the finaliser of splitmix64 (Steele, Lea, Flood, 2014)."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def epoch_keys(key: int, epochs: _Rows) -> _Keys:
    """Return the round keys of each epoch, uint32 of shape (rounds, epochs)."""
    rounds = np.arange(_ROUNDS, dtype=np.uint64)[:, None]
    counter = epochs.astype(np.uint64) * np.uint64(_ROUNDS) + rounds
    hashed = mix64(mix64(counter + np.uint64(0x9E3779B97F4A7C15)) ^ np.uint64(key))
    return (hashed >> np.uint64(32)).astype(np.uint32)


def permute(indices: _Rows, size: int, keys: _Keys) -> _Rows:
    """Map indices in [0, size) one to one onto [0, size).

    ``keys`` come from `epoch_keys`: of one epoch (rounds, 1), or one per index (rounds, indices).
    """
    return _walk(indices, size, keys, _forward)


def invert(items: _Rows, size: int, keys: _Keys) -> _Rows:
    """Undo `permute`: at which index does each item come?"""
    return _walk(items, size, keys, _backward)


def _walk(values: _Rows, size: int, keys: _Keys, step: Callable[..., _Rows]) -> _Rows:
    if not 1 <= size <= MAX_SIZE:
        raise ValueError(f"a permutation of {size:,} items; it must have 1 to 2**62")
    root = isqrt(size - 1) + 1
    # (root + skew)(root - skew) lies just above size, so that few values walk twice; yet a and b stay alike.
    skew = min(isqrt(root * root - size), root // 8)
    a, b = root + skew, root - skew
    result = step(values, a, b, keys)
    while len(outside := np.flatnonzero(result >= size)):
        result[outside] = step(result[outside], a, b, keys if keys.shape[1] == 1 else keys[:, outside])
    return result


def _forward(values: _Rows, a: int, b: int, keys: _Keys) -> _Rows:
    left, right = _split(values, b)
    for turn in range(0, _ROUNDS, 2):
        left += _hash_below(right, keys[turn], a)
        np.minimum(left, left - np.uint32(a), out=left)  # modulo a: the wrapped difference is the larger
        right += _hash_below(left, keys[turn + 1], b)
        np.minimum(right, right - np.uint32(b), out=right)
    return _join(left, right, b)


def _backward(values: _Rows, a: int, b: int, keys: _Keys) -> _Rows:
    left, right = _split(values, b)
    for turn in range(_ROUNDS - 2, -1, -2):
        right -= _hash_below(left, keys[turn + 1], b)
        np.minimum(right, right + np.uint32(b), out=right)
        left -= _hash_below(right, keys[turn], a)
        np.minimum(left, left + np.uint32(a), out=left)
    return _join(left, right, b)


def _split(values: _Rows, b: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    left = values // b
    return left.astype(np.uint32), (values - left * b).astype(np.uint32)


def _join(left: NDArray[np.uint32], right: NDArray[np.uint32], b: int) -> _Rows:
    joined = left.astype(np.int64)
    joined *= b
    joined += right
    return joined


def _hash_below(values: NDArray[np.uint32], key: Any, bound: int) -> NDArray[np.uint32]:
    """Hash 32-bit values into [0, bound).

    The mixer is Wellons' lowbias32 but for its last step: that mixes low bits, and the high ones count here.
    """
    hashed = values ^ key
    hashed ^= hashed >> np.uint32(16)
    hashed *= np.uint32(0x7FEB352D)
    hashed ^= hashed >> np.uint32(15)
    hashed *= np.uint32(0x846CA68B)
    scaled = hashed.astype(np.uint64)
    scaled *= np.uint64(bound)
    scaled >>= np.uint64(32)
    below: NDArray[np.uint32] = scaled.astype(np.uint32)
    return below


class Blocked:
    """A pure function of row numbers, evaluated block by block: the last block is kept.

    Made for the usual case, a run of rows that follow each other; any others are computed as they come.
    """

    def __init__(self, function: Callable[[_Rows], _Rows], *, size: int = BLOCK) -> None:
        self._function = function
        self._size = size
        # Number, row numbers as bytes, values; replaced as a whole, hence safe between threads.
        self._kept: tuple[int, bytes, _Rows] = (-1, b"", np.empty(0, np.int64))

    def __call__(self, rows: _Rows) -> _Rows:
        """Return the function's values at ``rows``, read-only where they come from the block."""
        if not len(rows):
            return np.empty(0, np.int64)
        block, first = divmod(int(rows[0]), self._size)
        if first + len(rows) > self._size:
            return self._function(rows)
        kept, numbers, values = self._kept
        if kept != block:
            every = np.arange(block * self._size, (block + 1) * self._size, dtype=np.int64)
            numbers, values = every.tobytes(), self._function(every)
            values.flags.writeable = False
            self._kept = (block, numbers, values)
        # Comparing bytes is by far the quickest way to tell that the rows follow each other.
        if rows.tobytes() == numbers[first * 8 : (first + len(rows)) * 8]:
            return values[first : first + len(rows)]
        return self._function(rows)

    def __getstate__(self) -> tuple[Any, ...]:
        return (self._function, self._size)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.__init__(state[0], size=state[1])  # type: ignore[misc]


class EpochOrder:
    """Which of ``size`` items each row shows: every item once per epoch, in another order each epoch.

    Row ``r`` belongs to epoch ``r // size``. ``stream`` keeps orders of the same seed apart.
    """

    def __init__(self, size: int, *, seed: int, stream: str, shuffle: bool = True) -> None:
        self.size = size
        self._key = derive_key(seed, stream)
        self._shuffle = shuffle
        self.items = Blocked(self._items, size=min(BLOCK, size))

    def rows_before(self, epoch: int) -> int:
        """Return the first row of ``epoch``."""
        return epoch * self.size

    def row_of(self, item: int, epoch: int) -> int:
        """Return the row of ``epoch`` that shows ``item``."""
        if not self._shuffle:
            return epoch * self.size + item
        keys = epoch_keys(self._key, np.array([epoch]))
        return epoch * self.size + int(invert(np.array([item]), self.size, keys)[0])

    def _items(self, rows: _Rows) -> _Rows:
        epochs = rows // self.size
        indices = rows - epochs * self.size
        if not self._shuffle:
            return indices
        one = int(epochs[0]) == int(epochs.min()) == int(epochs.max())
        return permute(indices, self.size, epoch_keys(self._key, epochs[:1] if one else epochs))
