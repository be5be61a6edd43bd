"""Arrays in NumPy's own format: what NumPy passes over in silence is refused here."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokpack.errors import DamagedError
from tokpack.npy_file import NpyArrayWriter, map_npy

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


def saved(values: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(values), **options)
    return file.getvalue()


def header(text: str) -> bytes:
    content = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('code from the file ran')",))


@pytest.mark.parametrize("name", ["<u2", "<u4", "u1", "<i8"])
@pytest.mark.parametrize("length", [0, 1, 70_000])
def test_files_of_numpy_and_for_numpy(tmp_path: Path, name: str, length: int) -> None:
    dtype = np.dtype(name)
    values = (np.arange(length) % 251).astype(dtype)
    np.save(tmp_path / "numpy.npy", values)
    assert np.array_equal(map_npy(tmp_path / "numpy.npy", dtype), values)
    with (tmp_path / "ours.npy").open("wb+") as file:
        writer = NpyArrayWriter(file, dtype)
        for part in np.array_split(values, 3):
            writer.write(part)
        writer.close()
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


GOOD = "{'descr': '<u2', 'fortran_order': False, 'shape': (%s), }"
HOSTILE = {
    "empty": b"",
    "another file": b"PK\x03\x04" + bytes(200),
    "objects to unpickle": saved(np.array([Runs()], dtype=object), allow_pickle=True),
    "a header that is code": header("__import__('os').abort()"),
    "a header that is code in a place": header(GOOD % "__import__('os').abort(),"),
    "nested deeply": header("{'descr': " + "[" * 100),
    "another dtype": saved(np.arange(4, dtype=np.float32)),
    "big-endian": saved(np.arange(4, dtype=">u2")),
    "two axes": saved(np.zeros((2, 2), DTYPE)),
    "no axis": saved(DTYPE.type(7)),
    "a structure": saved(np.zeros(2, [("a", DTYPE)])),
    "version 2": saved(np.arange(4, dtype=DTYPE), version=(2, 0)),
    "version 3": saved(np.arange(4, dtype=DTYPE), version=(3, 0)),
    "fewer values": header(GOOD % "5,") + bytes(8),
    "more values": header(GOOD % "3,") + bytes(8),
    "a length that overflows": header(GOOD % "9223372036854775807,") + bytes(8),
    "a negative length": header(GOOD % "-4,") + bytes(8),
    "a header longer than the file": b"\x93NUMPY\x01\x00\xff\xff{'descr'",
    "a header that ends early": saved(np.arange(4, dtype=DTYPE))[:60],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.npy").write_bytes(HOSTILE[name])
    with pytest.raises(DamagedError, match=r"a\.npy"):
        map_npy(tmp_path / "a.npy", DTYPE)
