"""Text sources against Python's own split, for every way of cutting a file into slices."""

from __future__ import annotations

import gzip
import pickle
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tokpack.errors import DamagedError, DocumentError, StorageError, UsageError
from tokpack.protocols import Problem, Slice, SourceOptions
from tokpack.sources.jsonl import open_source as jsonl_source
from tokpack.sources.text import open_source

EOT = b"<|endoftext|>"


def read(path: Path, options: SourceOptions, slice_bytes: int = 1 << 30) -> tuple[list[bytes], list[int]]:
    documents, positions, _ = read_all(path, options, slice_bytes)
    return documents, positions


def read_all(
    path: Path, options: SourceOptions, slice_bytes: int = 1 << 30
) -> tuple[list[bytes], list[int], list[Problem]]:
    source = pickle.loads(pickle.dumps(open_source(options)))
    slices = source.plan(str(path), slice_bytes=slice_bytes)
    edges = [edge for part in slices for edge in (part.byte_start, part.byte_stop)]
    assert edges[0] == 0
    assert edges[-1] == path.stat().st_size
    assert edges[1:-1:2] == edges[2::2]
    documents: list[bytes] = []
    positions: list[int] = []
    problems: list[Problem] = []
    for part in slices:
        for batch in source.read(part):
            assert len(batch.positions) == len(batch.texts)
            assert batch.texts.offsets[0] == 0
            documents += [text.encode() for text in batch.texts]
            positions += batch.positions.tolist()
            problems += batch.problems
    return documents, positions, problems


def expected(data: bytes, options: SourceOptions) -> tuple[list[bytes], list[int]]:
    """The rules, written down with nothing but bytes.split."""
    separator = b"\n" if options.split == "lines" else options.separator.encode()
    pieces = data.split(separator)
    if options.split == "lines":
        kept = [True] * (len(pieces) - 1) + [bool(pieces[-1])]
    else:
        kept = [bool(piece) for piece in pieces]
    documents, positions, at = [], [], 0
    for piece, keep in zip(pieces, kept, strict=True):
        if keep:
            documents.append(piece)
            positions.append(at)
        at += len(piece) + len(separator)
    return documents, positions


CASES = [
    b"",
    b"\n",
    b"a",
    b"\n\n\na\n",
    "\ufeffone\r\ntwo\r\n\r\nthree".encode(),
    b"<|endoftext|>",
    b"a<|endoftext|>b",
    b"<|endoftext|>\n<|endoftext|><|endoftext|>x <|endoftext| <|endoftext|>\n",
    "é<|endoftext|>漢字\n🙂".encode(),
]


@pytest.mark.parametrize("data", CASES)
@pytest.mark.parametrize("split", ["lines", "separator"])
@pytest.mark.parametrize("batch_bytes", [1, 3, 1 << 20])
def test_every_slice_size_gives_the_same_documents(tmp_path, data, split, batch_bytes):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    options = SourceOptions(split=split, batch_bytes=batch_bytes)
    for slice_bytes in range(1, len(data) + 2):
        assert read(path, options, slice_bytes) == expected(data, options), slice_bytes


@settings(max_examples=300, deadline=None)
@given(
    data=st.lists(st.sampled_from([b"a", b"b", b"\n", b"|", "é".encode(), b"ab|", b"aa"])).map(b"".join),
    separator=st.sampled_from(["|", "ab|", "aa", "aba", "\n\n", "é", "b"]),
    split=st.sampled_from(["lines", "separator"]),
    batch_bytes=st.integers(1, 9),
    slice_bytes=st.integers(1, 40),
)
def test_any_text_and_separator(tmp_path_factory, data, separator, split, batch_bytes, slice_bytes):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(data)
    options = SourceOptions(split=split, separator=separator, batch_bytes=batch_bytes)
    assert read(path, options, slice_bytes) == expected(data, options)


def test_separators_that_overlap_themselves_make_one_slice(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"xaaay" * 10)
    for separator, slices in (("aa", 1), ("ay", 50)):
        source = open_source(SourceOptions(split="separator", separator=separator))
        assert len(source.plan(str(path), slice_bytes=1)) == slices


@pytest.mark.parametrize(
    ("data", "split"),
    [
        (b"a\n<|endoftext|>\nb", True),
        (b"a\r\n<|endoftext|>\r\nb", True),
        (b"<|endoftext|>\n", True),
        (b"<|endoftext|>", True),
        (b"a\n<|endoftext|>", True),
        (b"a\n<|endoftext|>\r", True),
        (b"a <|endoftext|>\nb", False),
        (b"a\n<|endoftext|> \nb", False),
        (b"", False),
    ],
)
def test_auto_splits_where_a_line_is_the_separator(tmp_path, data, split):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    source = open_source(SourceOptions())
    assert source.describe(str(path)) == ("split at <|endoftext|>" if split else "one document per file")
    wanted = [piece for piece in data.split(EOT) if piece] if split else [data]
    for slice_bytes in range(1, len(data) + 2):
        assert read(path, SourceOptions(), slice_bytes)[0] == wanted


def test_auto_finds_a_separator_across_its_own_blocks(tmp_path, monkeypatch):
    data = b"word \n" * 9 + EOT + b"\r\nend"
    (tmp_path / "a.txt").write_bytes(data)
    for size in range(1, len(data)):
        monkeypatch.setattr("tokpack.sources.text._SEARCH_BYTES", size)
        assert open_source(SourceOptions()).describe(str(tmp_path / "a.txt")) == "split at <|endoftext|>"


def test_whole_file_keeps_every_byte(tmp_path):
    data = "\ufeffone\r\ntwo\r\x00\x85\u2028 \n".encode()
    (tmp_path / "a.txt").write_bytes(data)
    assert read(tmp_path / "a.txt", SourceOptions(split="file"), 3) == ([data], [0])


def test_batches_are_bounded(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"0123456789\n" * 10_000)
    source = open_source(SourceOptions(split="lines", batch_bytes=1000))
    [part] = source.plan(str(tmp_path / "a.txt"), slice_bytes=1 << 30)
    sizes = [batch.texts.nbytes for batch in source.read(part)]
    assert sum(sizes) == 100_000
    assert max(sizes) <= 1100


BROKEN = b"good\nb\xe2\x82d\xff\n\xe2\x82\nfine\n\xac"
MENDED = [b"good", "b\ufffdd\ufffd".encode(), "\ufffd".encode(), b"fine", "\ufffd".encode()]


@pytest.mark.parametrize("batch_bytes", [1, 4, 1000])
def test_invalid_utf8(tmp_path, batch_bytes):
    path = tmp_path / "a.txt"
    path.write_bytes(BROKEN)
    for slice_bytes in range(1, len(BROKEN) + 1):
        options = SourceOptions(split="lines", on_error="replace", batch_bytes=batch_bytes)
        documents, positions, problems = read_all(path, options, slice_bytes)
        assert documents == MENDED
        assert positions == [0, 5, 11, 14, 19]
        assert [(p.reason, p.position, p.action) for p in problems] == [
            ("invalid-utf8", at, "replaced") for at in (5, 11, 19)
        ]
        options = SourceOptions(split="lines", on_error="skip", batch_bytes=batch_bytes)
        documents, positions, problems = read_all(path, options, slice_bytes)
        assert documents == [b"good", b"fine"]
        assert positions == [0, 14]
        assert [(p.position, p.action) for p in problems] == [(at, "skipped") for at in (5, 11, 19)]
    with pytest.raises(
        DocumentError, match=r"a\.txt: invalid-utf8 in the document at byte 5: byte 0xe2 at 1"
    ):
        read(path, SourceOptions(split="lines"))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_named(tmp_path, encoding):
    data = "\ufeffHello, {world}\n".encode(encoding)
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(DocumentError, match="byte order mark of UTF-16"):
        read(tmp_path / "a.txt", SourceOptions())
    (tmp_path / "a.jsonl").write_bytes(data)
    with pytest.raises(DocumentError, match=r"bad-json.*byte order mark of UTF-16"):
        next(jsonl_source(SourceOptions()).read(Slice(str(tmp_path / "a.jsonl"), 0, 36, 0, 36)))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_replacement_is_pythons(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(data)
    options = SourceOptions(split="lines", on_error="replace", batch_bytes=7)
    wanted, _ = expected(data, options)
    assert read(path, options, 11)[0] == [line.decode("utf-8", "replace").encode() for line in wanted]


FEW_HIGH = [b"a" * 20, b"\n", "é漢🙂".encode(), b"\xe6", b"\xbc", b"\xa2", b"\xff", b" "]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(FEW_HIGH)))
def test_few_high_bytes_among_many_are_looked_at_alone(tmp_path_factory, parts):
    data = b"".join(parts)
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(data)
    options = SourceOptions(split="lines", on_error="skip")
    wanted = [line for line in expected(data, options)[0] if line == line.decode("utf-8", "ignore").encode()]
    assert read(path, options)[0] == wanted


@pytest.mark.parametrize("batch_bytes", [1, 7, 1000])
@pytest.mark.parametrize("limit", [1, 4, 5, 6])
def test_documents_above_the_limit(tmp_path, batch_bytes, limit):
    data = b"four\n\nfive5\nsix666\n" + b"x" * 50 + b"\nend\nfive5"
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    options = SourceOptions(
        split="lines", on_error="replace", batch_bytes=batch_bytes, max_document_bytes=limit
    )
    everything = list(zip(*expected(data, options), strict=True))
    for slice_bytes in range(1, len(data) + 1):
        documents, positions, problems = read_all(path, options, slice_bytes)
        kept = list(zip(documents, positions, strict=True))
        assert kept == [(d, at) for d, at in everything if len(d) <= limit]
        assert [problem.position for problem in problems] == [at for d, at in everything if len(d) > limit]
        assert {problem[0] for problem in problems} == {"too-large"}
        assert {problem.action for problem in problems} == {"skipped"}
    with pytest.raises(DocumentError, match="too-large"):
        read(path, SourceOptions(split="file", max_document_bytes=len(data) - 1))
    assert read(path, SourceOptions(split="file", max_document_bytes=len(data)))[0] == [data]


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(["<|endoftext|>", "<|endof", "a", "bb", "\n<|endoftext|>\n"]), max_size=12
    ),
    batch_bytes=st.integers(1, 40),
    slice_bytes=st.integers(1, 60),
    limit=st.integers(1, 20),
)
def test_half_a_separator_does_not_make_a_document_too_large(
    tmp_path_factory, parts, batch_bytes, slice_bytes, limit
):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes("".join(parts).encode())
    options = SourceOptions(
        split="separator", on_error="skip", batch_bytes=batch_bytes, max_document_bytes=limit
    )
    wanted, _ = expected(path.read_bytes(), options)
    documents, _, problems = read_all(path, options, slice_bytes)
    assert documents == [document for document in wanted if len(document) <= limit]
    assert len(problems) == len(wanted) - len(documents)


def test_one_huge_line_is_a_problem_and_not_an_allocation(tmp_path):
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.write(b"a\n")
        for _ in range(64):
            file.write(b"x" * (1 << 20))
        file.write(b"\nb\n")
    options = SourceOptions(split="lines", on_error="skip", max_document_bytes=1 << 20)
    tracemalloc.start()
    documents, _, problems = read_all(path, options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert documents == [b"a", b"b"]
    assert [(problem.reason, problem.position) for problem in problems] == [("too-large", 2)]
    assert peak < 16 << 20


def compress(data: bytes, suffix: str) -> bytes:
    half = len(data) // 2
    if suffix == ".gz":
        return gzip.compress(data[:half]) + gzip.compress(b"") + gzip.compress(data[half:])
    skippable = b"\x5a\x2a\x4d\x18\x03\x00\x00\x00abc"
    streaming = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    frames = [zstandard.ZstdCompressor().compress(data[:half]), zstandard.ZstdCompressor().compress(b"")]
    frames.append(streaming.compress(data[half:]) + streaming.flush())
    return skippable + skippable.join(frames) + skippable


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files_of_many_members(tmp_path, suffix):
    data = "one\ntwo\n<|endoftext|>\ndrei 漢\n".encode() * 5000 + bytes(300_000) + b"\nend"
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(compress(data, suffix))
    for split in ("lines", "separator"):
        options = SourceOptions(split=split, batch_bytes=1000)
        assert read(path, options, 1) == expected(data, options)
    assert read(path, SourceOptions(split="file"))[0] == [data]
    assert open_source(SourceOptions()).describe(str(path)) == "split at <|endoftext|>"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_truncated_compressed_file_is_an_error_at_every_length(tmp_path, suffix):
    data = b"0123456789\n" * 40
    whole = compress(data, suffix)
    path = tmp_path / f"a.txt{suffix}"
    # A file cut exactly between members is a whole file; nothing can tell.
    whole_ones = 0
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        try:
            documents = read(path, SourceOptions(split="lines"))[0]
        except DamagedError:
            continue
        assert b"\n".join(documents) in data
        whole_ones += 1
    assert whole_ones <= 7


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_damaged_compressed_file_is_named(tmp_path, suffix):
    path = tmp_path / f"a.txt{suffix}"
    for junk in (b"plain text, not compressed at all", b"", b"\x00"):
        path.write_bytes(junk)
        with pytest.raises(DamagedError, match=r"a\.txt"):
            read(path, SourceOptions(split="lines"))


def test_unreadable_inputs_are_named(tmp_path):
    source = open_source(SourceOptions())
    for name in ("missing.txt", "."):
        with pytest.raises(StorageError, match="cannot be read"):
            source.plan(str(tmp_path / name), slice_bytes=1)


@pytest.mark.parametrize("options", [SourceOptions(separator=""), SourceOptions(separator="\ud800")])
def test_separator_must_be_text(options):
    with pytest.raises(UsageError, match="separator"):
        open_source(options)
