"""``jsonl``: one document per line, ``{"input_ids":[1,2,3]}``; plain, gzip or zstd.

For exchange with whatever reads JSON. A line may hold further per-token columns and the document's text.
"""

from __future__ import annotations

import gzip
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from tokpack.batches import TokenBatch, offsets_from_lengths
from tokpack.dtypes import COLUMN_DTYPES, TokenArray, narrow
from tokpack.errors import DamagedError, DocumentError, UsageError
from tokpack.protocols import Slice
from tokpack.sources.pieces import Pieces, iter_pieces
from tokpack.sources.streams import file_bytes

__all__ = ["MAX_TOKENS", "GzipWriter", "JsonlReader", "JsonlWriter", "ZstdWriter"]

_Compression: TypeAlias = Literal["none", "gzip", "zstd"]
_LEVELS: dict[_Compression, range] = {"none": range(0), "gzip": range(1, 10), "zstd": range(1, 20)}
_DEFAULT_LEVEL = 3
_BLOCK_BYTES = 4 << 20
_PARSED_BYTES = 1 << 20
_MAX_DIGITS = 18  # of a number that int64 holds in any case
_MAX_LINE_BYTES = 256 << 20
#: A shard is in memory whole while it is read, so there is a limit to what it may hold.
MAX_TOKENS = 1 << 25
# What an array of whole numbers may consist of; the decoder has checked already that it is an array.
_NUMBERS = b"0123456789,[] \t\r\n"
_DIGITS = np.zeros(256, np.bool_)
_DIGITS[list(b"0123456789")] = True
_POWERS = 10 ** np.arange(19, dtype=np.int64)


class JsonlWriter:
    """Writes documents as lines. Option: ``level``, of the compressed kinds."""

    _compression: _Compression = "none"

    def __init__(
        self, file: BinaryIO, dtype: np.dtype[Any], columns: Sequence[str], options: Mapping[str, str]
    ) -> None:
        self._columns = columns
        self._tokens = 0
        self._stream = _compress(file, self._compression, options)
        self._file = file

    def write(self, batch: TokenBatch) -> None:
        """Append documents; ``batch.texts`` go into a field ``text``.

        Raises:
            DocumentError: the shard would hold more than a reader can take.
        """
        self._tokens += len(batch.tokens)
        if self._tokens > MAX_TOKENS:
            raise DocumentError(
                f"a shard of JSON lines holds at most {MAX_TOKENS:,} tokens; use --shard-bytes 32MB"
            )
        encode = msgspec.json.encode
        lines = []
        edges = batch.offsets.tolist()
        for index, (start, stop) in enumerate(itertools.pairwise(edges)):
            line = [b'{"input_ids":', encode(batch.tokens[start:stop].tolist())]
            for name in self._columns:
                line += [b',"%s":' % name.encode(), encode(batch.columns[name][start:stop].tolist())]
            if batch.texts is not None:
                line += [b',"text":', encode(batch.texts[index])]
            lines += [*line, b"}\n"]
        self._stream.write(b"".join(lines))

    def close(self) -> None:
        """End the compressed stream."""
        if self._stream is not self._file:
            self._stream.close()


class GzipWriter(JsonlWriter):
    """Writes documents as lines, compressed by gzip."""

    _compression = "gzip"


class ZstdWriter(JsonlWriter):
    """Writes documents as lines, compressed by zstd."""

    _compression = "zstd"


def _compress(file: BinaryIO, compression: _Compression, options: Mapping[str, str]) -> BinaryIO:
    text, allowed = options.get("level", str(_DEFAULT_LEVEL)), _LEVELS[compression]
    if compression == "none":
        return file
    if not text.isdecimal() or int(text) not in allowed:
        raise UsageError(f"level is {text!r}; give a whole number from {allowed[0]} to {allowed[-1]}")
    if compression == "gzip":
        # Neither a name nor a time, so that equal documents give equal bytes.
        return cast(BinaryIO, gzip.GzipFile("", "wb", int(text), file, mtime=0))
    compressor = zstandard.ZstdCompressor(level=int(text), write_checksum=True)
    return cast(BinaryIO, compressor.stream_writer(cast("Any", file), closefd=False))


class JsonlReader:
    """The ``input_ids`` of one file as one axis of tokens; all of them are in memory from first use on."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._path = path
        self._dtype = dtype
        file_bytes(str(path))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage dtype."""
        return self._dtype

    def __len__(self) -> int:
        return int(self.offsets[-1])

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Document boundaries, int64 of shape (lines + 1,)."""
        return self._documents[1]

    def read(self, start: int, stop: int) -> TokenArray:
        """Return tokens [start, stop) as a view."""
        return self._documents[0][start:stop]

    def column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return the values of a further per-token column for tokens [start, stop)."""
        if name not in COLUMN_DTYPES:
            raise DamagedError(f"{self._path} has no column {name!r}; encode it again with that column")
        if name not in self._columns:
            values, offsets = self._load(name)
            if not np.array_equal(offsets, self.offsets):
                raise DamagedError(f"{self._path} has another number of values in {name} than of input_ids")
            self._columns[name] = values.astype(COLUMN_DTYPES[name])
        return self._columns[name][start:stop]

    def close(self) -> None:
        """Nothing is open."""

    @cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        return {}

    @cached_property
    def _documents(self) -> tuple[TokenArray, NDArray[np.int64]]:
        return self._load("input_ids")

    def _load(self, field: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
        dtype = self._dtype if field == "input_ids" else np.dtype(np.int64)
        kind = msgspec.defstruct("Line", [("value", msgspec.Raw)], rename={"value": field}, gc=False)
        decoder = msgspec.json.Decoder(kind)
        values, lengths = [np.empty(0, dtype)], [np.empty(0, np.int64)]
        total = 0
        part = Slice(str(self._path), 0, sys.maxsize, 0, 0)
        for pieces in iter_pieces(part, b"\n", block_bytes=_BLOCK_BYTES, max_piece_bytes=_MAX_LINE_BYTES):
            if pieces.oversized is not None:
                raise DamagedError(
                    f"{self._path} has a line of more than {_MAX_LINE_BYTES >> 20} MiB at byte "
                    f"{pieces.oversized:,}; write it in another format"
                )
            arrays = list(self._arrays(pieces, decoder, field))
            lengths.append(np.fromiter((array.count(b",") + 1 if array else 0 for array in arrays), np.int64))
            total += int(lengths[-1].sum())
            if total > MAX_TOKENS:
                raise DamagedError(
                    f"{self._path} holds more than {MAX_TOKENS:,} tokens; write it in smaller shards"
                )
            before = sum(map(len, values))
            values.extend(narrow(numbers, dtype) for numbers in _parse(arrays))
            if sum(map(len, values)) - before != int(lengths[-1].sum()):
                raise DamagedError(
                    f"{self._path} has numbers in {field} that cannot be read; get the file again"
                )
        counts = np.concatenate(lengths)
        return np.concatenate(values), offsets_from_lengths(counts, len(counts))

    def _arrays(self, pieces: Pieces, decoder: msgspec.json.Decoder[Any], field: str) -> Iterator[bytes]:
        """Yield the inside of each line's array: digits, commas and blanks."""
        for start, end in zip(pieces.starts.tolist(), pieces.ends.tolist(), strict=True):
            line = pieces.data[start:end]
            if not line.strip():
                continue
            try:
                raw = bytes(decoder.decode(line).value)
            except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
                at = pieces.position + start
                raise DamagedError(
                    f"{self._path} is damaged at byte {at:,}: {error}; get the file again"
                ) from error
            if raw[:1] != b"[" or raw.count(b"[") != 1 or raw.translate(None, _NUMBERS):
                at = pieces.position + start
                raise DamagedError(
                    f"{self._path}: {field} of the line at byte {at:,} is no list of whole numbers; "
                    "is it a file of tokens?"
                )
            yield raw[1:-1].strip()


def _parse(arrays: Sequence[bytes]) -> Iterator[NDArray[np.int64]]:
    """Yield all numbers in order, from as much text at a time as its indices take no memory to speak of."""
    text = np.frombuffer(b",".join(array for array in arrays if array), np.uint8)
    start = 0
    while start < len(text):
        stop = min(start + _PARSED_BYTES, len(text))
        most = min(stop + _MAX_DIGITS, len(text))  # a longer number is refused, wherever it is cut
        while stop < most and _DIGITS[text[stop - 1]] and _DIGITS[text[stop]]:
            stop += 1
        yield _numbers(text[start:stop])
        start = stop


def _numbers(text: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return all numbers of a text, int64; no Python object is made per number."""
    is_digit = _DIGITS[text]
    edges = np.flatnonzero(np.diff(is_digit, prepend=False, append=False))
    starts, widths = edges[::2], np.diff(edges)[::2]
    if len(widths) and int(widths.max()) > _MAX_DIGITS:
        raise DamagedError(f"a token id has {int(widths.max())} digits; get the file again")
    values = np.zeros(len(starts), np.int64)
    for place in range(int(widths.max()) if len(widths) else 0):
        here = widths > place
        digits = text[starts[here] + place].astype(np.int64) - ord("0")
        values[here] += digits * _POWERS[widths[here] - 1 - place]
    return values
