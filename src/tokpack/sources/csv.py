"""CSV and TSV as RFC 4180 has them: a header, one row per document, quotes doubled inside quotes.

A row ends at a line feed that is not inside quotes. Where rows end is found by counting quotes, without
parsing, so a file is cut into slices at row boundaries and no row is ever in memory that is too long.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from tokpack.batches import TextBatch
from tokpack.errors import DamagedError, UsageError
from tokpack.protocols import Problem, Slice, Source, SourceBatch, SourceOptions
from tokpack.sources.problems import Reason, describe_ill_formed, settle
from tokpack.sources.streams import ByteStream, file_bytes, is_compressed, open_stream

__all__ = ["CsvSource", "open_source"]

_QUOTE, _LF = ord('"'), ord("\n")
_BOM = b"\xef\xbb\xbf"
_MAX_HEADER_BYTES = 1 << 20


def open_source(options: SourceOptions) -> Source:
    """Return the source; which columns it reads stands in ``text_field`` or ``record_fields``."""
    # The parser's limit is the process's; rows that are too long never reach it.
    csv.field_size_limit(max(csv.field_size_limit(), options.max_document_bytes))
    return CsvSource(options)


@dataclass(frozen=True, slots=True)
class _Row:
    """One row's bytes, or None where it is too long; ``position`` is where it begins."""

    position: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class CsvSource:
    """Rows of one text column, or records of several; positions are bytes. A `tokpack.protocols.Source`."""

    options: SourceOptions

    def plan(self, path: str, *, slice_bytes: int) -> Sequence[Slice]:
        """Cut the rows after the header at row boundaries; a compressed file is one slice.

        Raises:
            UsageError: there is no such column.
        """
        header = self._header(path)
        size = file_bytes(path)
        if is_compressed(path) or size - header.position <= slice_bytes:
            return [Slice(path, header.position, size, 0, size)]
        cuts = [header.position]
        with open_stream(path, header.position) as stream:
            for row in _rows(stream, header.position, 1 << 20, 0):
                if row.position - cuts[-1] >= slice_bytes:
                    cuts.append(row.position)
        edges = [*cuts, size]
        return [
            Slice(path, a, b, a if index else 0, b) for index, (a, b) in enumerate(itertools.pairwise(edges))
        ]

    def describe(self, path: str) -> str:
        """Say which column is read."""
        return f"one document per row of column {_wanted(self.options)[0]!r}"

    def read(self, part: Slice) -> Iterator[SourceBatch]:
        """Yield the documents whose rows begin in ``part``."""
        header = self._header(part.path)
        limit = self.options.max_document_bytes
        group: list[_Row] = []
        size = 0
        start = 0 if is_compressed(part.path) else part.start
        with open_stream(part.path, start) as stream:
            for row in _rows(stream, start, self.options.batch_bytes, limit):
                if row.position < header.position:
                    continue
                if row.position >= part.stop and not is_compressed(part.path):
                    break
                group.append(row)
                size += len(row.data or b"")
                if size >= self.options.batch_bytes:
                    yield self._batch(group, header, part.path)
                    group, size = [], 0
        if group:
            yield self._batch(group, header, part.path)

    def _header(self, path: str) -> _Header:
        with open_stream(path) as stream:
            rows = _rows(stream, 0, 1 << 16, _MAX_HEADER_BYTES)
            first = next(rows, None)
            after = next(rows, None)
        if first is None or first.data is None:
            raise DamagedError(f"{path} does not begin with a row of column names; is it a CSV file?")
        delimiter = "\t" if ".tsv" in path.rpartition("/")[2] else ","
        names = _parse(first.data.removeprefix(_BOM).decode(errors="replace"), delimiter) or []
        wanted = _wanted(self.options)
        required = wanted[0]
        if required not in names:
            raise UsageError(
                f"{path} has no column {required!r}; its columns are: {', '.join(names[:20]) or 'none'}; "
                "name the one to read"
            )
        columns = {name: names.index(name) for name in wanted if name in names}
        end = first.position + len(first.data) + 1 if after is None else after.position
        return _Header(columns, required, delimiter, end)

    def _batch(self, rows: Sequence[_Row], header: _Header, path: str) -> SourceBatch:
        texts: list[bytes] = []
        positions: list[int] = []
        problems: list[Problem] = []
        for row in rows:
            text, reason, detail = self._text(row, header)
            if reason is not None:
                problem = settle(reason, path, row.position, detail, on_error=self.options.on_error)
                problems.append(problem)
                if problem.action == "skipped":
                    continue
            if text is not None:
                texts.append(text.encode())
                positions.append(row.position)
        return SourceBatch(TextBatch.from_utf8(texts), np.array(positions, np.int64), tuple(problems))

    def _text(self, row: _Row, header: _Header) -> tuple[str | None, Reason | None, str]:
        """Return the text of a row, and what is wrong with it; a blank line has neither."""
        if row.data is None:
            limit = self.options.max_document_bytes
            return None, "too-large", f"its row is longer than max_document_bytes ({limit:,})"
        reason: Reason | None = None
        detail = ""
        try:
            line = row.data.decode()
        except UnicodeDecodeError as error:
            line = row.data.decode(errors="replace")
            reason, detail = "invalid-utf8", describe_ill_formed(row.data, error.start)
        if not line.strip("\r\n"):
            return None, None, ""
        fields = _parse(line, header.delimiter)
        if fields is None:
            return None, "bad-csv", "it is not one row: its quotes do not match"
        if len(fields) <= (last := max(header.columns.values())):
            return None, "missing-field", f"it has {len(fields)} fields, one to read is field {last + 1}"
        if not self.options.record_fields:
            return fields[header.columns[header.required]], reason, detail
        record = {name: fields[column] for name, column in header.columns.items()}
        return msgspec.json.encode(record).decode(), reason, detail


@dataclass(frozen=True, slots=True)
class _Header:
    columns: dict[str, int]  # where the columns to read are, by name
    required: str
    delimiter: str
    position: int  # where the rows begin


def _wanted(options: SourceOptions) -> tuple[str, ...]:
    """Return the columns to read; a row without the first is a problem."""
    return options.record_fields or (options.text_field,)


def _parse(line: str, delimiter: str) -> list[str] | None:
    """Return the fields of one row, or None where it is not exactly one."""
    try:
        rows = list(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _rows(stream: ByteStream, position: int, block_bytes: int, limit: int) -> Iterator[_Row]:
    """Cut a stream that begins at a row into rows, without their line feeds.

    A row of more than ``limit`` bytes has no data; with a limit of 0, none has.
    """
    held, start, odd, lost = b"", position, 0, False
    while block := stream.read(block_bytes):
        array = np.frombuffer(block, np.uint8)
        inside = (np.cumsum(array == _QUOTE) + odd) & 1
        ends = np.flatnonzero((array == _LF) & (inside == 0)).tolist()
        odd = int(inside[-1])
        taken = 0
        for end in ends:
            size = position + end - start
            fits = not lost and size <= limit
            yield _Row(start, held + block[taken:end] if fits else None)
            held, start, taken, lost = b"", position + end + 1, end + 1, False
        position += len(block)
        if not lost and position - start <= limit:
            held += block[taken:]
        else:
            held, lost = b"", position > start
    if position > start:
        yield _Row(start, None if lost else held)
