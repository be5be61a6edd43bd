"""JSON Lines: one JSON object per line, the text in one of its fields.

Lines end at LF only, so U+2028, U+0085, VT and FF inside strings are data. Blank lines are passed over, and
so is a byte order mark at the start of the file. Only the text field is decoded, whatever else an object
holds: a broken string in another field concerns nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tokpack.batches import TextBatch, offsets_from_lengths
from tokpack.errors import UsageError
from tokpack.protocols import Problem, Slice, Source, SourceBatch, SourceOptions
from tokpack.sources.fields import Broken, RecordFields, TextField
from tokpack.sources.pieces import Pieces, byte_slices, iter_pieces
from tokpack.sources.problems import settle

__all__ = ["JsonlSource", "open_source"]

_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r"
_CR, _OPEN, _CLOSE = b"\r{}"


def open_source(options: SourceOptions) -> Source:
    """Return the source for JSON lines.

    Raises:
        UsageError: ``text_field`` is empty or has an empty part.
    """
    if options.batch_bytes < 1 or options.max_document_bytes < 1:
        raise UsageError("batch_bytes and max_document_bytes must be 1 or more")
    if not all(options.text_field.split(".")):
        raise UsageError(
            f"--text-field {options.text_field!r} has an empty part; write a field's name, or names joined "
            "by dots such as meta.body"
        )
    return JsonlSource(options)


@dataclass(frozen=True, slots=True)
class JsonlSource:
    """JSON lines. Implements `tokpack.protocols.Source`."""

    options: SourceOptions

    def plan(self, path: str, *, slice_bytes: int) -> Sequence[Slice]:
        """Cut ``path`` into byte ranges; a compressed file is one slice."""
        return byte_slices(path, slice_bytes=slice_bytes, divisible=True)

    def describe(self, path: str) -> str:
        """Say how documents are found in ``path``."""
        if self.options.record_fields:
            return f"field {self.options.record_fields[0]!r} of each line"
        return f"field {self.options.text_field!r} of each line"

    def read(self, part: Slice) -> Iterator[SourceBatch]:
        """Yield the documents whose lines begin in ``part``."""
        records = self.options.record_fields
        field = RecordFields(records) if records else TextField(self.options.text_field)
        for pieces in iter_pieces(
            part,
            b"\n",
            block_bytes=self.options.batch_bytes,
            max_piece_bytes=self.options.max_document_bytes,
        ):
            batch = _read_together(pieces, field, self.options.max_document_bytes)
            yield batch or self._read_one_by_one(pieces, field, part.path)

    def _read_one_by_one(self, pieces: Pieces, field: TextField | RecordFields, path: str) -> SourceBatch:
        texts: list[bytes] = []
        positions: list[int] = []
        problems: list[Problem] = []
        if pieces.oversized is not None:
            problems.append(self._too_large(path, pieces.oversized))
        for start, end in zip(pieces.starts.tolist(), pieces.ends.tolist(), strict=True):
            position = pieces.position + start
            if end - start > self.options.max_document_bytes:
                problems.append(self._too_large(path, position))
                continue
            line = pieces.data[start:end]
            line = line if position else line.removeprefix(_BOM)
            if not line.strip(_BLANKS):
                continue
            text = field.decode(line)
            if isinstance(text, Broken):
                problem = settle(text.reason, path, position, text.detail, on_error=self.options.on_error)
                problems.append(problem)
                if problem.action == "skipped":
                    continue
                text = text.mended
            texts.append(text.encode())
            positions.append(position)
        return SourceBatch(TextBatch.from_utf8(texts), np.array(positions, dtype=np.int64), tuple(problems))

    def _too_large(self, path: str, position: int) -> Problem:
        detail = f"its line is longer than {self.options.max_document_bytes:,} bytes (--max-document-bytes)"
        return settle("too-large", path, position, detail, on_error=self.options.on_error)


def _read_together(
    pieces: Pieces, field: TextField | RecordFields, max_line_bytes: int
) -> SourceBatch | None:
    """Return the documents of all lines, or None where one of them needs a closer look.

    The decoder takes any white space between objects. That objects and lines are the same things follows from
    every line being ``{…}`` (inside an object, no ``{`` follows a ``}``) and there being as many of both.
    """
    starts, ends = pieces.starts, pieces.ends
    if pieces.oversized is not None or (starts.size and int((ends - starts).max()) > max_line_bytes):
        return None
    array = np.frombuffer(pieces.data, dtype=np.uint8)
    if pieces.position == 0 and pieces.data.startswith(_BOM):
        return None
    if (blank := starts == ends).any():
        starts, ends = starts[~blank], ends[~blank]
    if not starts.size:
        return SourceBatch(TextBatch.from_utf8([]), starts)
    last = ends - 1 - (array[ends - 1] == _CR)  # of a line that is a CR alone, the LF before it
    if (array[starts] != _OPEN).any() or (array[last] != _CLOSE).any():
        return None
    texts = field.decode_lines(memoryview(pieces.data)[: int(ends[-1])])
    if texts is None or len(texts) != len(starts):
        return None
    return SourceBatch(_pack(texts), starts + pieces.position)


def _pack(texts: list[str]) -> TextBatch:
    joined = "".join(texts)
    if not joined.isascii():
        return TextBatch.from_utf8([text.encode() for text in texts])
    data = np.frombuffer(joined.encode(), dtype=np.uint8)
    return TextBatch(data, offsets_from_lengths(map(len, texts), len(texts)))
