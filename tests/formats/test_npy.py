"""Arrays in NumPy's own format: what NumPy passes over in silence is refused here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tokpack.errors import DamagedError
from tokpack.npy_file import map_npy

DTYPE = np.dtype("<u2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", np.arange(100, dtype=DTYPE))
    return tmp_path / "a.npy"


def test_what_numpy_saves_is_mapped(path: Path) -> None:
    assert map_npy(path, DTYPE).tolist() == list(range(100))


@pytest.mark.parametrize("junk", [b"\0", b"\0\0", b"x" * 1000])
def test_bytes_after_the_array_are_refused(path: Path, junk: bytes) -> None:
    path.write_bytes(path.read_bytes() + junk)
    assert len(np.load(path)) == len(np.load(path, mmap_mode="r")) == 100  # NumPy does not mind
    with pytest.raises(DamagedError, match="where its header promises"):
        map_npy(path, DTYPE)


def test_every_truncation_is_refused(path: Path) -> None:
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(DamagedError):
            map_npy(path, DTYPE)


def test_every_flipped_bit_of_the_header_is_refused_or_means_the_same(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for bit in range(8 * (len(content) - 200)):
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        content[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError):
            map_npy(path, DTYPE)
