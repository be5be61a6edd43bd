"""The catalogue of faults points at tests that are there; those without a home elsewhere are here.

Each shows the naive implementation failing first: a test that such a program would pass proves nothing.
"""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from catalogue import ROWS
from seeded import ROOT

import tokpack
from tokpack.dtypes import narrow, parse_dtype, token_dtype
from tokpack.errors import DamagedError, UsageError
from tokpack.formats.bin import BinReader
from tokpack.plugins import discover
from tokpack.protocols import SourceOptions
from tokpack.specs import load

WHITE = [chr(code) for code in range(0x10FFFF) if chr(code).isspace()]


def test_every_row_is_tried_or_says_why_not() -> None:
    assert [row.number for row in ROWS] == list(range(1, 75))
    sources: dict[str, str] = {}
    for row in ROWS:
        assert bool(row.tests) != (len(row.why) > 40), f"F{row.number:02}: tests, or a reason"
        for test in row.tests:
            file, _, name = test.partition("::")
            assert (ROOT / file).is_file(), f"F{row.number:02} names {file}, which is not there"
            source = sources.setdefault(file, (ROOT / file).read_text())
            assert f"def {name}(" in source, f"F{row.number:02} names {test}, which is not there"


@pytest.mark.parametrize("vocab_size", [256, 65_535, 65_536, 65_537, 119_547, 2**31 - 1])
def test_every_id_comes_back(vocab_size: int, tmp_path: Path) -> None:
    """F01, F07: every id of a vocabulary is stored as itself, in no more bytes than it takes."""
    ids = np.unique(np.concatenate([np.arange(min(vocab_size, 1 << 17)), [vocab_size // 2, vocab_size - 1]]))
    naive = ids.astype(np.uint16)
    assert (naive == ids).all() == (vocab_size <= 65_536)
    dtype = token_dtype(vocab_size)
    assert dtype.itemsize == (2 if vocab_size <= 65_536 else 4)
    (tmp_path / "a.bin").write_bytes(narrow(ids.astype(np.int64), dtype).tobytes())
    assert np.array_equal(BinReader(tmp_path / "a.bin", dtype).read(0, len(ids)), ids)
    if vocab_size > 65_536:
        with pytest.raises(DamagedError, match="does not fit uint16"):
            narrow(ids, np.dtype("<u2"))


def test_odd_names_of_a_dtype() -> None:
    """F04: of all spellings of a width only two are one."""
    stems = [
        "u",
        "ui",
        "uint",
        "int",
        "i",
        "float",
        "f",
        "UInt",
        "UINT",
        "uint_",
        " uint",
        "np.uint",
        "<u",
        ">u",
    ]
    widths = ["", "1", "2", "4", "8", "16", "32", "64", "016", "16.0", "16 ", "１６", "-16", "0x10", "16\n"]
    odd = [stem + width for stem in stems for width in widths if stem + width not in ("uint16", "uint32")]
    assert len(odd) > 200
    naive = [name for name in odd if {"uint16": 2, "uint32": 4}.get(name, 2) == 2]
    assert len(naive) == len(odd)  # a default where there is no match takes them all
    for name in odd:
        with pytest.raises(UsageError, match="unknown dtype"):
            parse_dtype(name, 100)


@pytest.mark.parametrize("wrong", [-1, 2**16, 2**32, 2**40, 1.5, float("nan"), None, "1"])
def test_what_is_no_token_id(wrong: object) -> None:
    """F05: whatever a plugin returns, an id that cannot be stored is named and not wrapped."""
    tokens = np.array([1, wrong])
    if tokens.dtype.kind == "i":
        assert tokens.astype(np.uint16)[1] in range(65_536)  # NumPy wraps it and says nothing
    with pytest.raises(DamagedError, match=r"does not fit uint16|must be integers"):
        narrow(tokens, np.dtype("<u2"))


def test_places_beyond_32_bits() -> None:
    """F08: documents whose bytes begin beyond 2**31, 2**32 and 2**33."""
    if "megatron" not in (formats := discover().formats):
        pytest.skip("tokpack-megatron is not installed")
    lengths = np.full(9, 2**30, np.int64)
    naive = np.cumsum(lengths.astype(np.int32) * 4, dtype=np.int32)
    assert (naive <= 0).any()
    file = io.BytesIO()
    writer = load(formats["megatron"].index_writer)(file, np.dtype("<u4"))
    writer.write(lengths)
    writer.close()
    content = file.getvalue()
    _, _, _, sequences, _ = struct.unpack_from("<9sQBQQ", content)
    places = np.frombuffer(content, "<i8", sequences, 34 + 4 * sequences)
    assert places.tolist() == [4 * 2**30 * index for index in range(9)]


def texts_of(path: Path, kind: str) -> list[str]:
    source = load(discover().sources[kind].open)(SourceOptions())
    parts = source.plan(str(path), slice_bytes=1 << 20)
    return [text for part in parts for batch in source.read(part) for text in batch.texts]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_line_ends_of_unicode_are_text(mark: str, tmp_path: Path) -> None:
    """F22: JSON allows some of these raw within a string; a line ends at LF and nowhere else."""
    text = f"a{mark}b"
    raw = json.dumps({"text": text}, ensure_ascii=False) if mark > "\x7f" else json.dumps({"text": text})
    (tmp_path / "a.jsonl").write_text(raw + "\n", newline="")
    if mark > "\x7f":
        assert len((tmp_path / "a.jsonl").read_bytes().decode().splitlines()) == 2
    assert texts_of(tmp_path / "a.jsonl", "jsonl") == [text]
    (tmp_path / "a.txt").write_text(text, newline="")
    assert texts_of(tmp_path / "a.txt", "text") == [text]


def test_white_space_at_both_ends_is_kept(tmp_path: Path) -> None:
    """F28: all that Unicode counts as white space, before and after the text."""
    assert len(WHITE) >= 25
    texts = [f"{white}a{white}" for white in WHITE]
    assert {text.strip() for text in texts} == {"a"}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    store = tokpack.encode(tmp_path / "a.jsonl", tmp_path / "set", tokenizer="byte", eos=False)["train"]
    found = [bytes(store.document(index).astype(np.uint8)).decode() for index in range(store.num_documents)]
    assert found == texts


def test_line_ends_are_kept(tmp_path: Path) -> None:
    """F29: CRLF, CR, NEL and their mixtures, byte for byte."""
    content = "a\r\nb\rc\nd\u0085e\r\r\n\n\r".encode()
    (tmp_path / "a.txt").write_bytes(content)
    assert (tmp_path / "a.txt").read_text(encoding="utf-8").encode() != content
    store = tokpack.encode(
        tmp_path / "a.txt", tmp_path / "set", tokenizer="byte", eos=False, text_split="file"
    )["train"]
    assert bytes(store.tokens().astype(np.uint8)) == content


def test_who_has_a_dataset_open_keeps_it(tmp_path: Path) -> None:
    """F57: a dataset that is replaced stays whole for whoever reads it."""
    for name, text in (("old", "a" * 9000), ("new", "b" * 9000)):
        (tmp_path / f"{name}.txt").write_text(text)
    tokpack.encode(tmp_path / "old.txt", tmp_path / "set", tokenizer="byte")
    naive = tmp_path / "naive.bin"
    naive.write_bytes(bytes(2000))
    mapped = np.memmap(naive, np.uint16, "r")
    with naive.open("r+b") as file:  # written over, in its place
        file.write(b"\xff" * 2000)
    assert mapped[0] == 65_535
    store = tokpack.open_dataset(tmp_path / "set")["train"]
    view = store.tokens()
    before = view.copy()
    tokpack.encode(tmp_path / "new.txt", tmp_path / "set", tokenizer="byte", overwrite=True)
    assert np.array_equal(view, before)
    assert store.tokens()[0] == ord("a")
    assert tokpack.open_dataset(tmp_path / "set")["train"].tokens()[0] == ord("b")


@pytest.mark.parametrize("name", ["bin", "npy", "jsonl", "parquet", "arrow"])
def test_views_outlive_their_reader(name: str, tmp_path: Path) -> None:
    """F58: what was read stays valid when the reader is closed and the dataset removed."""
    if name not in discover().formats:
        pytest.skip(f"the format {name} is not installed")
    (tmp_path / "a.txt").write_text("text " * 2000)
    dataset = tokpack.encode(tmp_path / "a.txt", tmp_path / "set", tokenizer="byte", format=name)
    reader = dataset["train"].reader(0)
    view = reader.read(5, 5000)
    before = view.copy()
    reader.close()
    for path in (tmp_path / "set").glob("train*"):
        path.unlink()
    del reader, dataset
    assert np.array_equal(view, before)
