"""Small damages to a good file: each must be a named error or go unnoticed; none a crash, none a hang."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from tokpack.errors import TokpackError

__all__ = ["damaged", "survives"]

#: Numbers that a length field may lie with.
LIES = (0, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def damaged(good: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Yield ``count`` variants: flipped bits, lying numbers, missing and added bytes, mostly near the end."""
    rng = random.Random(seed)
    for _ in range(count):
        data = bytearray(good)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at = rng.randrange(len(data))
            if rng.random() < 0.6:  # where the metadata lies
                at = len(data) - 1 - rng.randrange(min(len(data), 1500))
            kind = rng.randrange(5)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 2:
                lie, width = rng.choice(LIES), rng.choice((4, 8))
                data[at : at + width] = (lie % 256**width).to_bytes(width, "little")
            elif kind == 3:
                del data[at : at + rng.randrange(1, 40)]
            else:
                data[at:at] = rng.randbytes(rng.randrange(1, 12))
        yield bytes(data)


def survives(good: bytes, read: Callable[[Path], None], path: Path, *, seed: int, count: int) -> None:
    """Let ``read`` open ``count`` damaged files, of which it must refuse some, by a `TokpackError`."""
    refused = 0
    for data in damaged(good, seed, count):
        path.write_bytes(data)
        try:
            read(path)
        except TokpackError:
            refused += 1
    assert refused > count // 5
