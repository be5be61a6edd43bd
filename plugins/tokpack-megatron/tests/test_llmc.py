"""llm.c shards byte for byte."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokpack.batches import TokenBatch
from tokpack.dtypes import DTYPES
from tokpack.errors import DamagedError, DocumentError, UsageError
from tokpack_megatron import llmc
from tokpack_megatron.llmc import LlmcReader, LlmcWriter

U16, U32 = DTYPES["uint16"], DTYPES["uint32"]
DOCUMENTS = [[50256, 1, 2, 3], [50256, 4], [50256, 5, 6, 7, 8]]


def write(path: Path, dtype: np.dtype[Any], documents: list[list[int]] = DOCUMENTS, **options: str) -> Path:
    batch = TokenBatch.from_documents(documents)
    with path.open("wb+") as file:
        writer = LlmcWriter(file, dtype, (), options)
        writer.write(TokenBatch(batch.tokens.astype(dtype), batch.offsets))
        writer.close()
    return path


@pytest.mark.parametrize(
    ("dtype", "options", "head"),
    [
        (U16, {}, "88d83401 01000000 0b000000 00000000"),
        (U32, {}, "a1d93401 07000000 0b000000 00000000"),
        (U16, {"variant": "automodel"}, "cb999f10 01000000 0b000000 02000000"),
        (U32, {"variant": "automodel"}, "cb999f10 01000000 0b000000 04000000"),
    ],
)
def test_golden_bytes(tmp_path: Path, dtype: np.dtype[Any], options: dict[str, str], head: str) -> None:
    path = write(tmp_path / "a.bin", dtype, **options)
    flat = np.concatenate([np.array(document, dtype) for document in DOCUMENTS])
    assert path.read_bytes() == bytes.fromhex(head).ljust(1024, b"\0") + flat.tobytes()
    reader = LlmcReader(path, dtype)
    assert reader.read(0, len(reader)).tolist() == flat.tolist()
    assert reader.dtype == dtype


def test_as_modded_nanogpt_reads_it(tmp_path: Path) -> None:
    """The steps of its loader: 256 int32 of header, checks of magic and version, count, then uint16."""
    path = write(tmp_path / "a.bin", U16)
    header = np.fromfile(path, np.int32, 256)
    assert (header[0], header[1]) == (20240520, 1)
    with path.open("rb") as file:
        file.seek(256 * 4)
        tokens = np.frombuffer(file.read(), np.uint16)
    assert len(tokens) == header[2]
    assert tokens.tolist() == list(itertools.chain(*DOCUMENTS))


def test_what_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="does not hold uint32"):
        write(tmp_path / "a.bin", U32, variant="gpt2")
    with pytest.raises(UsageError, match="choose one of: gpt2, llama3, automodel"):
        write(tmp_path / "a.bin", U16, variant="gpt5")
    monkeypatch.setattr(llmc, "_MOST_TOKENS", 10)
    with pytest.raises(DocumentError, match="at most 10 tokens"):
        write(tmp_path / "a.bin", U16)


@pytest.mark.parametrize("at", [0, 4, 8])
@pytest.mark.parametrize("value", [0, -1, 2**31 - 1, 10, 12])
def test_headers_that_lie(tmp_path: Path, at: int, value: int) -> None:
    path = write(tmp_path / "a.bin", U16)
    content = bytearray(path.read_bytes())
    content[at : at + 4] = struct.pack("<i", value)
    path.write_bytes(content)
    with pytest.raises(DamagedError):
        LlmcReader(path, U16)


def test_truncated_and_of_another_dtype(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", U16)
    with pytest.raises(DamagedError, match="2 bytes per token, the dataset has 4"):
        LlmcReader(path, U32)
    for size in (0, 10, 1023, 1024, 1025, 1030):
        path.write_bytes(path.read_bytes()[:size].ljust(size, b"\0"))
        with pytest.raises(DamagedError):
            LlmcReader(path, U16)
        write(path, U16)
