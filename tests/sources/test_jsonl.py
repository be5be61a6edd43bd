"""JSON lines against the standard library's json, line by line."""

from __future__ import annotations

import gzip
import json
import pickle
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tokpack.errors import DamagedError, DocumentError, UsageError
from tokpack.protocols import Problem, SourceOptions
from tokpack.sources.jsonl import open_source
from tokpack.sources.problems import REASONS


def read(
    path: Path, options: SourceOptions, slice_bytes: int = 1 << 30
) -> tuple[list[tuple[int, str]], list[Problem]]:
    source = pickle.loads(pickle.dumps(open_source(options)))
    documents: list[tuple[int, str]] = []
    problems: list[Problem] = []
    for part in source.plan(str(path), slice_bytes=slice_bytes):
        for batch in source.read(part):
            documents += zip(batch.positions.tolist(), batch.texts, strict=True)
            problems += batch.problems
    return documents, problems


LINES: dict[bytes, str | tuple[str, str | None]] = {
    b'{"text": "plain"}': "plain",
    b'{"id": 7, "text": "after", "tags": [1, {"text": "no"}]}': "after",
    b'  {"text": "indented"}\t \r': "indented",
    b'{"text": ""}': "",
    b'{"text": "crlf"}\r': "crlf",
    b'{"text": "first", "text": "last"}': "last",
    b'{"te\\u0078t": "escaped key"}': "escaped key",
    '{"text": "\u2028 \u2029 \x85 \ufeff 漢 🙂"}'.encode(): "\u2028 \u2029 \x85 \ufeff 漢 🙂",
    b'{"text": "\\u2028\\n\\r\\u000b\\f\\u0000\\ud83d\\ude42\\\\ud800"}': "\u2028\n\r\v\f\0🙂\\ud800",
    b'{"text": "ours", "other": "\\ud800"}': "ours",
    b'{"text": "ours", "other": "\xff"}': "ours",
    b'{"text": "a\\ud83dz\\\\\\udc00"}': ("lone-surrogate", "a\ufffdz\\\ufffd"),
    b'{"text": "\\udc00\\ud83d", "other": "\\ud800"}': ("lone-surrogate", "\ufffd\ufffd"),
    b'{"text": "\xe2\x82x\xff"}': ("invalid-utf8", "\ufffdx\ufffd"),
    b'{"text": "\xff\\ud800"}': ("lone-surrogate", "\ufffd\ufffd"),
    b'{"other": "\xff"}': ("missing-field", None),
    b'{"text": null}': ("not-a-string", None),
    b'{"text": ["a", "b"]}': ("not-a-string", None),
    b'{"text": 5}': ("not-a-string", None),
    b"{}": ("missing-field", None),
    b'{"Text": "no"}': ("missing-field", None),
    b'{"a": {"text": "no"}}': ("missing-field", None),
    b"null": ("bad-json", None),
    b'["text"]': ("bad-json", None),
    b'"text"': ("bad-json", None),
    b'{"text": "a"': ("bad-json", None),
    b'"text": "b"}': ("bad-json", None),
    b'{"text": "a"} {"text": "b"}': ("bad-json", None),
    b'{"text": "a"},{"text": "b"}': ("bad-json", None),
    b"{'text': 'a'}": ("bad-json", None),
    b'{"text": "tab\tinside"}': ("bad-json", None),
    b'{"text": "a", "b": NaN}': ("bad-json", None),
    b'{"text": "\\x"}': ("bad-json", None),
    b'{"text": "ok", "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}": ("bad-json", None),
    b'{"text":' * 100_000: ("bad-json", None),
    b'\xef\xbb\xbf{"text": "mark in mid-file"}': ("bad-json", None),
    b"\xff\xfe": ("bad-json", None),
}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:30].decode(errors="replace"))
@pytest.mark.parametrize("alone", [True, False])
def test_each_kind_of_line(tmp_path, line, alone):
    path = tmp_path / "a.jsonl"
    before, after = (b"\n", b"") if alone else (b'{"text": "before"}\n', b'\n{"text": "after"}\n')
    path.write_bytes(before + line + after)
    wanted = LINES[line]
    around = [] if alone else ["before", "after"]

    def texts(on_error):
        documents, problems = read(path, SourceOptions(on_error=on_error))
        assert all(problem.reason in REASONS for problem in problems)
        assert all(problem.position == len(before) for problem in problems)
        return [text for _, text in documents], [(p.reason, p.action) for p in problems]

    if isinstance(wanted, str):
        for on_error in ("fail", "skip", "replace"):
            assert texts(on_error) == ([*around[:1], wanted, *around[1:]], [])
        return
    reason, mended = wanted
    assert texts("skip") == (around, [(reason, "skipped")])
    if mended is None:
        assert texts("replace") == (around, [(reason, "skipped")])
    else:
        assert texts("replace") == ([*around[:1], mended, *around[1:]], [(reason, "replaced")])
    with pytest.raises(DocumentError, match=rf"a\.jsonl: {reason} .* byte {len(before)}: .*--on-error skip"):
        texts("fail")


SMALL = [line for line in LINES if len(line) < 100]


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(st.sampled_from([*SMALL, b"", b"\r", b"  \t", b"{", b"}", b'{"a":', b"[", b"{}}"])),
    batch_bytes=st.integers(1, 200),
    slice_bytes=st.integers(1, 200),
)
def test_slices_and_batches_never_matter(tmp_path_factory, lines, batch_bytes, slice_bytes):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    path.write_bytes(b"\n".join([b"", *lines]))  # a mark at the start of a file is another matter
    wanted = read(path, SourceOptions(on_error="replace", batch_bytes=1))
    options = SourceOptions(on_error="replace", batch_bytes=batch_bytes)
    assert read(path, options, slice_bytes) == wanted
    texts = [text for _, text in wanted[0]]
    one_by_one = [LINES.get(line, ("", None)) for line in lines]
    assert texts == [
        text for entry in one_by_one if (text := entry if isinstance(entry, str) else entry[1]) is not None
    ]


def test_every_slice_size(tmp_path):
    data = b"".join(line + b"\n\n" for line in SMALL)
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    wanted = read(path, SourceOptions(on_error="skip"))
    for slice_bytes in range(1, len(data) + 1, 3):
        assert read(path, SourceOptions(on_error="skip", batch_bytes=64), slice_bytes) == wanted


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["text", "b", "c"]), st.text(), min_size=1)), st.booleans())
def test_any_text_json_can_write(tmp_path_factory, objects, ascii_only):
    objects = [{**value, "text": value.get("text", "")} for value in objects]
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    lines = [json.dumps(value, ensure_ascii=ascii_only) for value in objects]
    path.write_bytes("\n".join(lines).encode())
    documents, problems = read(path, SourceOptions(batch_bytes=100))
    assert [text for _, text in documents] == [value["text"] for value in objects]
    assert not problems


def test_pretty_printed_objects_are_no_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    # As many objects as lines, and every line begins with { and ends with }, but for the wrong reasons.
    path.write_bytes(b'{"text": "a"} {"text": "b"}\n{"text":\n{"text": "c"}\n}')
    documents, problems = read(path, SourceOptions(on_error="skip"))
    assert documents == [(37, "c")]
    assert [problem.position for problem in problems] == [0, 28, 51]


def test_byte_order_mark_at_the_start(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\n{"text": "b"}\n')
    for slice_bytes in range(1, 40):
        assert read(path, SourceOptions(), slice_bytes) == ([(0, "a"), (17, "b")], [])
    path.write_bytes(b"\xef\xbb\xbf\n")
    assert read(path, SourceOptions()) == ([], [])


@pytest.mark.parametrize(
    ("field", "line", "text"),
    [
        ("meta.body", b'{"meta": {"body": "x"}}', "x"),
        ("a.b.c", b'{"a": {"b": {"c": "x", "d": 1}}, "b": 2}', "x"),
        ("Inhalt ü", '{"Inhalt ü": "x"}'.encode(), "x"),
        ("class", b'{"class": "x"}', "x"),
        ("__init__", b'{"__init__": "x"}', "x"),
    ],
)
def test_field_names(tmp_path, field, line, text):
    path = tmp_path / "a.jsonl"
    path.write_bytes(line + b"\n" + line)
    documents, _ = read(path, SourceOptions(text_field=field))
    assert [text for _, text in documents] == [text, text]


def test_dotted_field_that_is_not_there(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"meta": 5}\n{"meta": {}}\n{"meta": null}\n{"meta.body": "x"}\n{"meta": {"body": 1}}')
    _, problems = read(path, SourceOptions(text_field="meta.body", on_error="skip"))
    assert [problem.reason for problem in problems] == ["missing-field"] * 4 + ["not-a-string"]


@pytest.mark.parametrize("field", ["", ".", "a.", "a..b"])
def test_field_without_a_name(field):
    with pytest.raises(UsageError, match="text-field"):
        open_source(SourceOptions(text_field=field))


def test_one_huge_line_is_a_problem_and_not_an_allocation(tmp_path):
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "a"}\n{"text": "')
        for _ in range(64):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"text": "b"}\n')
    options = SourceOptions(on_error="skip", max_document_bytes=1 << 20)
    tracemalloc.start()
    documents, problems = read(path, options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [text for _, text in documents] == ["a", "b"]
    assert [(problem.reason, problem.position) for problem in problems] == [("too-large", 14)]
    assert peak < 16 << 20
    with pytest.raises(DocumentError, match="too-large"):
        read(path, SourceOptions(max_document_bytes=1 << 20))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed(tmp_path, suffix):
    data = b"".join(b'{"text": "line %d"}\n' % number for number in range(5000))
    pack = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor().compress
    path = tmp_path / f"a.jsonl{suffix}"
    whole = pack(data[:1000]) + pack(data[1000:])
    path.write_bytes(whole)
    documents, _ = read(path, SourceOptions(batch_bytes=100), 10)
    assert [text for _, text in documents] == [f"line {number}" for number in range(5000)]
    path.write_bytes(whole[:-10])
    with pytest.raises(DamagedError, match="truncated"):
        read(path, SourceOptions(on_error="skip"))
