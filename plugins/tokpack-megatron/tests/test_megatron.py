"""Megatron files byte for byte, and through Megatron's own reader where it is installed."""

from __future__ import annotations

import io
import itertools
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokpack.batches import TokenBatch
from tokpack.dtypes import DTYPES
from tokpack.errors import DamagedError, DocumentError
from tokpack_megatron.index import IndexWriter, read_offsets
from tokpack_megatron.tokens import TokensReader, TokensWriter

U16, U32 = DTYPES["uint16"], DTYPES["uint32"]
DOCUMENTS = [[1, 2, 3, 50256], [4, 50256], [5, 6, 7, 8, 50256]]

# What megatron-core 0.16.1 itself writes for DOCUMENTS.
GOLDEN_INDEX = bytes.fromhex(
    "4d4d494449445800 00 0100000000000000 08 0300000000000000 0400000000000000"
    "04000000 02000000 05000000 0000000000000000 0800000000000000 0c00000000000000"
    "0000000000000000 0100000000000000 0200000000000000 0300000000000000"
)
GOLDEN_TOKENS = bytes.fromhex("0100 0200 0300 50c4 0400 50c4 0500 0600 0700 0800 50c4")


def batch_of(documents: list[list[int]], dtype: np.dtype[Any]) -> TokenBatch:
    batch = TokenBatch.from_documents(documents)
    return TokenBatch(batch.tokens.astype(dtype), batch.offsets)


def write(folder: Path, documents: list[list[int]], dtype: np.dtype[Any]) -> Path:
    with (folder / "train.bin").open("wb+") as file, (folder / "train.idx").open("wb+") as index_file:
        writer, index = TokensWriter(file, dtype, (), {}), IndexWriter(index_file, dtype)
        for half in (documents[:2], documents[2:]):
            writer.write(batch_of(half, dtype))
            index.write(batch_of(half, dtype).lengths)
        writer.close()
        index.close()
    return folder / "train.bin"


def documents_of(path: Path, dtype: np.dtype[Any]) -> list[list[int]]:
    reader, offsets = TokensReader(path, dtype), read_offsets(path.with_suffix(".idx"), dtype)
    assert offsets[-1] == len(reader)
    return [reader.read(int(a), int(b)).tolist() for a, b in itertools.pairwise(offsets)]


def test_writes_the_golden_bytes(tmp_path: Path) -> None:
    path = write(tmp_path, DOCUMENTS, U16)
    assert path.read_bytes() == GOLDEN_TOKENS
    assert path.with_suffix(".idx").read_bytes() == GOLDEN_INDEX
    assert len(GOLDEN_INDEX) == 102


def test_reads_the_golden_bytes(tmp_path: Path) -> None:
    (tmp_path / "train.bin").write_bytes(GOLDEN_TOKENS)
    (tmp_path / "train.idx").write_bytes(GOLDEN_INDEX)
    assert documents_of(tmp_path / "train.bin", U16) == DOCUMENTS


@pytest.mark.parametrize("dtype", [U16, U32])
@pytest.mark.parametrize("documents", [[], [[]], [[], [1], [], [], [2, 3], []], [[7] * 10_000]])
def test_round_trip(tmp_path: Path, dtype: np.dtype[Any], documents: list[list[int]]) -> None:
    assert documents_of(write(tmp_path, documents, dtype), dtype) == documents


def test_documents_of_several_sequences(tmp_path: Path) -> None:
    """Megatron may store a document as sentences; tokpack reads it as the one document that it is."""
    lengths, places, owners = (2, 1, 3), (0, 4, 6), (0, 2, 2, 3)
    head = struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 1, 8, 3, 4)
    (tmp_path / "a.idx").write_bytes(head + struct.pack("<3i3q4q", *lengths, *places, *owners))
    assert read_offsets(tmp_path / "a.idx", U16).tolist() == [0, 3, 3, 6]
    multimodal = head + struct.pack("<3i3q4q", *lengths, *places, *owners) + b"\0\0\0"
    (tmp_path / "b.idx").write_bytes(multimodal)
    assert read_offsets(tmp_path / "b.idx", U16).tolist() == [0, 3, 3, 6]


def test_ids_and_lengths_that_do_not_fit() -> None:
    with pytest.raises(DocumentError, match="2,147,483,648"):
        TokensWriter(io.BytesIO(), U32, (), {}).write(batch_of([[2**31]], U32))
    with pytest.raises(DocumentError, match="too long for Megatron"):
        IndexWriter(io.BytesIO(), U16).write(np.array([2**31]))


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, b"X", "does not begin as"),
        (9, struct.pack("<Q", 2), "version 2"),
        (17, b"\x04", "tokens of int32, the dataset's are uint16"),
        (17, b"\x63", "unknown code 99"),
        (18, struct.pack("<Q", 2**62), "truncated or damaged"),
        (18, struct.pack("<Q", 2**64 - 1), "truncated or damaged"),
        (26, struct.pack("<Q", 0), "truncated or damaged"),
        (26, struct.pack("<Q", 2**63), "truncated or damaged"),
        (34, struct.pack("<i", -4), "contradicts itself"),
        (34, struct.pack("<i", 5), "contradicts itself"),
        (46, struct.pack("<q", 2), "contradicts itself"),
        (70, struct.pack("<q", 1), "contradicts itself"),
        (78, struct.pack("<q", 3), "contradicts itself"),
        (94, struct.pack("<q", 2), "contradicts itself"),
    ],
)
def test_an_index_that_lies(tmp_path: Path, at: int, value: bytes, message: str) -> None:
    content = bytearray(GOLDEN_INDEX)
    content[at : at + len(value)] = value
    (tmp_path / "a.idx").write_bytes(content)
    with pytest.raises(DamagedError, match=message):
        read_offsets(tmp_path / "a.idx", U16)


def test_truncated_anywhere(tmp_path: Path) -> None:
    for size in range(len(GOLDEN_INDEX)):
        (tmp_path / "a.idx").write_bytes(GOLDEN_INDEX[:size])
        with pytest.raises(DamagedError):
            read_offsets(tmp_path / "a.idx", U16)


@pytest.mark.parametrize(("dtype", "documents"), [(U16, DOCUMENTS), (U32, [[1, 100_000], [], [2**31 - 1]])])
def test_megatron_itself_reads_it(tmp_path: Path, dtype: np.dtype[Any], documents: list[list[int]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of its own import
        module = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    path = write(tmp_path, documents, dtype)
    theirs = module.IndexedDataset(str(path.with_suffix("")))
    sequences = [theirs[index].tolist() for index in range(len(theirs))]
    owners = theirs.document_indices
    found = [list(itertools.chain(*sequences[a:b])) for a, b in itertools.pairwise(owners)]
    assert found == documents


def test_megatron_itself_writes_the_same(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("megatron.core.datasets.indexed_dataset")
        import torch

    documents = [*DOCUMENTS, [], [9]]
    builder = module.IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=np.uint16)
    for document in documents:
        builder.add_document(torch.tensor(document), [len(document)] if document else [])
    builder.finalize(str(tmp_path / "theirs.idx"))
    ours = write(tmp_path, documents, U16)
    assert (tmp_path / "theirs.bin").read_bytes() == ours.read_bytes()
    assert (tmp_path / "theirs.idx").read_bytes() == ours.with_suffix(".idx").read_bytes()
