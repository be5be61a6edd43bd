"""Plain text: a file, its lines, or the parts between separators.

| ``split`` | documents |
|---|---|
| ``file`` | the file is one document |
| ``lines`` | each line; lines end at LF only, a CR stays, an empty line is an empty document |
| ``separator`` | the parts between separators, not stripped; exactly empty ones are dropped |
| ``auto`` | ``separator`` where a line of the file is exactly the separator, else ``file`` |

Bytes are kept as they are: byte order mark, CRLF and all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import TextBatch, offsets_from_lengths
from tokpack.errors import UsageError
from tokpack.protocols import Problem, Slice, Source, SourceBatch, SourceOptions
from tokpack.sources.pieces import Pieces, byte_slices, iter_pieces, overlaps_itself
from tokpack.sources.problems import describe_ill_formed, settle
from tokpack.sources.streams import open_stream, read_exactly

__all__ = ["TextSource", "open_source"]

_Split: TypeAlias = Literal["file", "lines", "separator"]
_SEARCH_BYTES = 1 << 20
_WINDOW_BYTES = 1 << 12


def open_source(options: SourceOptions) -> Source:
    """Return the source for plain text.

    Raises:
        UsageError: the separator is empty or not valid Unicode.
    """
    if options.batch_bytes < 1 or options.max_document_bytes < 1:
        raise UsageError("batch_bytes and max_document_bytes must be 1 or more")
    if not options.separator:
        raise UsageError("the separator is empty; give --separator TEXT, or --text-split lines or file")
    try:
        separator = options.separator.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the separator {options.separator!r} is not valid Unicode: {error}") from error
    return TextSource(options, separator)


@dataclass(frozen=True, slots=True)
class TextSource:
    """Plain text; see the table above. Implements `tokpack.protocols.Source`."""

    options: SourceOptions
    separator: bytes

    def plan(self, path: str, *, slice_bytes: int) -> Sequence[Slice]:
        """Cut ``path`` into byte ranges; compressed files and whole-file documents are one slice."""
        split = self._split(path)
        divisible = split == "lines" or (split == "separator" and not overlaps_itself(self.separator))
        return byte_slices(path, slice_bytes=slice_bytes, divisible=divisible)

    def describe(self, path: str) -> str:
        """Say how documents are found in ``path``."""
        split = self._split(path)
        if split == "separator":
            return (
                f"split at {self.options.separator}"
                if self.options.separator.isprintable()
                else (f"split at {self.options.separator!r}")
            )
        return "one document per line" if split == "lines" else "one document per file"

    def read(self, part: Slice) -> Iterator[SourceBatch]:
        """Yield the documents that begin in ``part``."""
        # A file found to have no separator is one slice, so any other slice needs no second look.
        auto_was_cut = self.options.split == "auto" and part.start > 0
        split = "separator" if auto_was_cut else self._split(part.path)
        if split == "file":
            yield self._read_file(part.path)
            return
        separator = b"\n" if split == "lines" else self.separator
        for pieces in iter_pieces(
            part,
            separator,
            block_bytes=self.options.batch_bytes,
            max_piece_bytes=self.options.max_document_bytes,
        ):
            yield self._batch(pieces, part.path, separator, drop_empty=split == "separator")

    def _split(self, path: str) -> _Split:
        if self.options.split != "auto":
            return self.options.split
        return "separator" if _has_line(path, self.separator) else "file"

    def _read_file(self, path: str) -> SourceBatch:
        limit = self.options.max_document_bytes
        with open_stream(path) as stream:
            data = read_exactly(stream, limit + 1)
        bounds = np.array([0, len(data)], dtype=np.int64)
        pieces = Pieces(0, data, bounds[:1], bounds[1:], oversized=None)
        return self._batch(pieces, path, b"", drop_empty=False)

    def _batch(self, pieces: Pieces, path: str, separator: bytes, *, drop_empty: bool) -> SourceBatch:
        starts, ends = pieces.starts, pieces.ends
        problems = [self._too_large(path, pieces.oversized)] if pieces.oversized is not None else []
        if drop_empty and (empty := starts == ends).any():
            starts, ends = starts[~empty], ends[~empty]
        too_large = ends - starts > self.options.max_document_bytes
        broken = _invalid_utf8(pieces.data, starts, ends)
        if broken or too_large.any():
            return self._repaired(pieces, starts, ends, path, broken, problems)
        lengths = ends - starts
        if not lengths.size:
            return SourceBatch(TextBatch.from_utf8([]), starts, tuple(problems))
        body = np.frombuffer(_joined(pieces.data, starts, ends, separator), dtype=np.uint8)
        texts = TextBatch(body, offsets_from_lengths(lengths, len(lengths)))
        return SourceBatch(texts, starts + pieces.position, tuple(problems))

    def _repaired(
        self,
        pieces: Pieces,
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        path: str,
        broken: dict[int, str],
        problems: list[Problem],
    ) -> SourceBatch:
        documents, positions = [], []
        for index, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            position = pieces.position + start
            document = pieces.data[start:end]
            if len(document) > self.options.max_document_bytes:
                problems.append(self._too_large(path, position))
                continue
            if (detail := broken.get(index)) is not None:
                problem = settle("invalid-utf8", path, position, detail, on_error=self.options.on_error)
                problems.append(problem)
                if problem.action == "skipped":
                    continue
                document = document.decode("utf-8", "replace").encode()
            documents.append(document)
            positions.append(position)
        return SourceBatch(
            TextBatch.from_utf8(documents), np.array(positions, dtype=np.int64), tuple(problems)
        )

    def _too_large(self, path: str, position: int) -> Problem:
        detail = f"longer than {self.options.max_document_bytes:,} bytes (--max-document-bytes)"
        return settle("too-large", path, position, detail, on_error=self.options.on_error)


def _joined(data: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], separator: bytes) -> bytes:
    """Return the pieces back to back, that is ``data`` without its separators."""
    if len(starts) == 1:
        return data[int(starts[0]) : int(ends[0])]
    if len(separator) == 1:  # CPython deletes single bytes fast, and lines are many and short
        return data[: int(ends[-1])].replace(separator, b"")
    return b"".join([data[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)])


def _invalid_utf8(data: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> dict[int, str]:
    """Return what is wrong with each document that is not UTF-8, by its index, in one pass over the bytes."""
    broken: dict[int, str] = {}
    if not ends.size or _is_utf8(data, int(ends[-1])):
        return broken
    view, stop, at = memoryview(data), int(ends[-1]), 0
    while at < len(starts):
        begin = int(starts[at])
        try:
            str(view[begin:stop], "utf-8")
        except UnicodeDecodeError as error:
            byte = begin + error.start
            at = int(np.searchsorted(ends, byte, side="right"))
            start = int(starts[at])
            broken[at] = describe_ill_formed(data[start : int(ends[at])], byte - start)
            at += 1
        else:
            break
    return broken


def _is_utf8(data: bytes, stop: int) -> bool:
    """Whether ``data[:stop]`` is UTF-8.

    Windows of ASCII need no decoding, and no character reaches into one of them.
    """
    if data.isascii():
        return True
    view, start = memoryview(data), None
    for at in range(0, stop, _WINDOW_BYTES):
        if not data[at : min(at + _WINDOW_BYTES, stop)].isascii():
            start = at if start is None else start
        elif start is not None:
            if not _decodes(view[start:at]):
                return False
            start = None
    return start is None or _decodes(view[start:stop])


def _decodes(data: memoryview) -> bool:
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _has_line(path: str, line: bytes) -> bool:
    """Whether a line of the file, without its LF or CRLF, is exactly ``line``."""
    if b"\n" in line:
        return False
    wanted = (b"\n" + line + b"\n", b"\n" + line + b"\r\n")
    with open_stream(path) as stream:
        window = b"\n"
        while block := stream.read(_SEARCH_BYTES):
            window += block
            if any(text in window for text in wanted):
                return True
            window = window[-len(wanted[1]) + 1 :]
    return window == b"\n" + line or window.endswith((b"\n" + line, b"\n" + line + b"\r"))
