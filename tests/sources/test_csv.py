"""CSV and TSV."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokpack.errors import DamagedError, DocumentError, UsageError
from tokpack.protocols import SourceBatch, SourceOptions
from tokpack.sources.csv import open_source
from tokpack.testing import SourceConformance


class TestCsv(SourceConformance):
    name, suffix = "csv", ".csv"
    texts = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=20)

    def write(self, path, documents):
        path.write_bytes(as_csv(documents).encode())


def as_csv(documents: list[str], delimiter: str = ",") -> str:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerows([["id", "text"], *([index, text] for index, text in enumerate(documents))])
    return file.getvalue()


def read(path: Path, *, slice_bytes: int = 1 << 30, **options: Any) -> list[SourceBatch]:
    source = open_source(SourceOptions(**options))
    return [batch for part in source.plan(str(path), slice_bytes=slice_bytes) for batch in source.read(part)]


def texts(batches: list[SourceBatch]) -> list[str]:
    return [text for batch in batches for text in batch.texts]


TEXTS = ["plain", "", 'she said "hi"', "two\nlines", "comma, here", 'all\n",",\n"', "x" * 3000, "ü✓"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
@pytest.mark.parametrize("options", [{}, {"slice_bytes": 1}, {"slice_bytes": 100, "batch_bytes": 7}])
def test_what_the_csv_module_writes(tmp_path: Path, name: str, options: dict[str, int]) -> None:
    content = as_csv(TEXTS, "\t" if "tsv" in name else ",").encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert texts(read(tmp_path / name, **options)) == TEXTS


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), max_size=9), st.integers(1, 60)
)
def test_any_text_in_any_slices(documents: list[str], slice_bytes: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["text"], *([text] for text in documents)])
        assert texts(read(path, slice_bytes=slice_bytes)) == documents


def test_crlf_bom_blank_lines_and_no_last_newline(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbftext,n\r\n"a\r\nb",1\r\n\r\nc,2\r\n\nd,3')
    assert texts(read(tmp_path / "a.csv")) == ["a\r\nb", "c", "d"]


def test_pandas_reads_the_same(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "a.csv"
    path.write_text(as_csv(TEXTS), newline="")
    assert texts(read(path)) == pandas.read_csv(path, keep_default_na=False)["text"].tolist()


def test_what_is_broken_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\n1,good\n2\n3,\xff\xfe\n4," + b"y" * 200 + b'\n5,"a"b\n6,last\n')
    batches = read(path, on_error="skip", max_document_bytes=100)
    assert texts(batches) == ["good", "last"]
    problems = [problem for batch in batches for problem in batch.problems]
    assert [problem.reason for problem in problems] == [
        "missing-field",
        "invalid-utf8",
        "too-large",
        "bad-csv",
    ]
    assert texts(read(path, on_error="replace", max_document_bytes=100)) == ["good", "\ufffd\ufffd", "last"]
    with pytest.raises(DocumentError, match="missing-field in the document at byte 15"):
        read(path)


def test_quotes_that_never_close(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,text\n1,good\n2,"open\n3,lost\n')
    with pytest.raises(DocumentError, match="bad-csv in the document at byte 15"):
        read(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text('id,text\n1,5" disk\n2,6" disk\n')
    with pytest.raises(DocumentError, match="bad-csv"):
        read(tmp_path / "b.csv")


def test_one_endless_row_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"text\nfirst\n")
        for _ in range(64):
            file.write(b"x" * (1 << 20))
        file.write(b"\nlast\n")
    batches = read(path, on_error="skip", max_document_bytes=1 << 20)
    assert texts(batches) == ["first", "last"]


def test_a_wrong_column_names_what_exists(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,body\n1,x\n")
    with pytest.raises(UsageError, match="no column 'text'; its columns are: id, body"):
        read(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(DamagedError, match="does not begin with a row of column names"):
        read(tmp_path / "b.csv")
