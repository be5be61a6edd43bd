"""Files of other tools as token stores."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from tokpack.dataset.verify import verify_dataset
from tokpack.encoding.adopt import AdoptOptions, adopt
from tokpack.errors import DamagedError, StorageError
from tokpack_megatron.foreign import open_llmc, open_megatron


def index_of(code: int, lengths: list[int], width: int) -> bytes:
    places = np.cumsum([0, *lengths[:-1]]) * width
    count = len(lengths)
    head = struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 1, code, count, count + 1)
    return head + struct.pack(f"<{count}i{count}q{count + 1}q", *lengths, *places, *range(count + 1))


@pytest.mark.parametrize(("code", "dtype"), [(8, "<u2"), (4, "<i4")])
def test_megatron(tmp_path: Path, code: int, dtype: str) -> None:
    np.array([1, 2, 3, 4, 5], dtype).tofile(tmp_path / "a.bin")
    (tmp_path / "a.idx").write_bytes(index_of(code, [3, 2], np.dtype(dtype).itemsize))
    store = open_megatron(tmp_path / "a", vocab_size=50257)
    assert store.offsets.tolist() == [0, 3, 5]
    assert store.read(3, 5).tolist() == [4, 5]
    out = np.empty((2, 2), store.dtype)
    store.gather(np.array([0, 2]), out)
    assert out.tolist() == [[1, 2], [3, 4]]


def test_megatron_that_does_not_fit(tmp_path: Path) -> None:
    np.array([1, 2, 3, 4], "<u2").tofile(tmp_path / "a.bin")
    (tmp_path / "a.idx").write_bytes(index_of(8, [3, 2], 2))
    with pytest.raises(DamagedError, match="holds 4 tokens, its index tells of 5"):
        open_megatron(tmp_path / "a", vocab_size=9)
    (tmp_path / "a.idx").write_bytes(index_of(5, [3, 2], 8))
    with pytest.raises(DamagedError, match="dtype code 5"):
        open_megatron(tmp_path / "a", vocab_size=9)
    with pytest.raises(StorageError, match="cannot read"):
        open_megatron(tmp_path / "none", vocab_size=9)


@pytest.mark.parametrize(("magic", "version", "dtype"), [(20240520, 1, "<u2"), (20240801, 7, "<u4")])
def test_llmc(tmp_path: Path, magic: int, version: int, dtype: str) -> None:
    tokens = np.array([5, 9, 1, 2, 9, 3], dtype)
    header = struct.pack("<3i", magic, version, len(tokens)).ljust(1024, b"\0")
    (tmp_path / "a.bin").write_bytes(header + tokens.tobytes())
    store = open_llmc(tmp_path / "a.bin", vocab_size=10, document_start=9)
    assert [store.read(a, b).tolist() for a, b in ((0, 1), (1, 4), (4, 6))] == [[5], [9, 1, 2], [9, 3]]
    assert store.offsets.tolist() == [0, 1, 4, 6]
    assert open_llmc(tmp_path / "a.bin", vocab_size=10).offsets.tolist() == [0, 6]
    (tmp_path / "b.bin").write_bytes(b"short")
    with pytest.raises(DamagedError, match="too few"):
        open_llmc(tmp_path / "b.bin", vocab_size=10)


def test_imported_as_datasets(tmp_path: Path) -> None:
    for code, dtype, name in ((8, "<u2", "uint16"), (4, "<i4", "uint32")):
        np.array([1, 2, 3, 4, 5], dtype).tofile(tmp_path / f"{name}.bin")
        (tmp_path / f"{name}.idx").write_bytes(index_of(code, [3, 2], np.dtype(dtype).itemsize))
        options = AdoptOptions(tokenizer="byte", layout="megatron", dtype=name)
        made = adopt({"train": [tmp_path / name]}, tmp_path / f"from-{name}", options)
        assert made["train"].offsets.tolist() == [0, 3, 5]
        assert verify_dataset(made.path).findings == ()
    header = struct.pack("<3i", 20240520, 1, 4).ljust(1024, b"\0")
    (tmp_path / "a.bin").write_bytes(header + np.array([9, 1, 9, 2], "<u2").tobytes())
    llmc = AdoptOptions(tokenizer="byte", layout="llmc", document_start=9)
    assert adopt({"train": [tmp_path / "a.bin"]}, tmp_path / "out", llmc)["train"].offsets.tolist() == [
        0,
        2,
        4,
    ]
