"""Looking at Arrow IPC metadata before Arrow acts on it.

Arrow verifies the shape of its FlatBuffers metadata. What it does not ask is whether a compressed buffer,
which states its size after decompression in its first eight bytes, is worth that memory; this module does.
Layout: https://arrow.apache.org/docs/format/Columnar.html (sections on IPC) and Message.fbs, File.fbs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokpack.errors import DamagedError

__all__ = ["MAGIC", "Message", "check_message", "file_messages", "stream_messages"]

MAGIC = b"ARROW1"
#: What the buffers of one record batch may decompress to, and how large metadata may be.
_MAX_BATCH_BYTES = 128 << 20
_MAX_METADATA = 64 << 20
_CONTINUATION = 0xFFFFFFFF
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_BLOCK = np.dtype([("offset", "<i8"), ("metadata", "<i4"), ("pad", "<i4"), ("body", "<i8")])
_BUFFER = np.dtype([("offset", "<i8"), ("length", "<i8")])


class Message(NamedTuple):
    """A message: where it begins, its bytes, and of a record batch the rows and whether it is compressed."""

    offset: int
    nbytes: int
    is_batch: bool = False
    rows: int = 0
    compressed: bool = False


class _Table:
    """One table of a FlatBuffer; a field that is not there reads as zero."""

    def __init__(self, data: memoryview, at: int) -> None:
        self.data = data
        self.at = at
        self._vtable = at - self._unpack("<i", at)
        self._vtable_bytes = self._unpack("<H", self._vtable)

    @classmethod
    def root(cls, data: memoryview) -> _Table:
        return cls(data, struct.unpack_from("<I", data)[0])

    def _unpack(self, layout: str, at: int) -> int:
        if at < 0:
            raise struct.error("a position before the beginning")
        value: int = struct.unpack_from(layout, self.data, at)[0]
        return value

    def _place(self, field: int) -> int:
        entry = 4 + 2 * field
        offset = self._unpack("<H", self._vtable + entry) if entry < self._vtable_bytes else 0
        return self.at + offset if offset else 0

    def number(self, field: int, layout: str) -> int:
        place = self._place(field)
        return self._unpack(layout, place) if place else 0

    def table(self, field: int) -> _Table | None:
        place = self._place(field)
        return _Table(self.data, place + self._unpack("<I", place)) if place else None

    def structs(self, field: int, kind: np.dtype[Any]) -> NDArray[Any]:
        if not (place := self._place(field)):
            return np.empty(0, kind)
        start = place + self._unpack("<I", place)
        return np.frombuffer(self.data, kind, count=self._unpack("<I", start), offset=start + 4)


def file_messages(data: memoryview, path: str) -> tuple[list[int], list[int]]:
    """Return the bytes at which the dictionaries and the record batches of an IPC file begin.

    Raises:
        DamagedError: the footer is missing, lies about its size, or names places outside of the file.
    """
    size = len(data)
    footer = int.from_bytes(data[size - 10 : size - 6], "little") if size >= 24 else 0
    if data[size - 6 :] != MAGIC or not 0 < footer <= min(size - 20, _MAX_METADATA):
        raise DamagedError(f"{path} does not end as an Arrow file does; it is truncated or something else")
    try:
        root = _Table.root(data[size - 10 - footer : size - 10])
        places: list[list[int]] = [root.structs(field, _BLOCK)["offset"].tolist() for field in (2, 3)]
    except (struct.error, ValueError, IndexError) as error:
        raise DamagedError(
            f"{path} has a footer that cannot be followed: {error}; get the file again"
        ) from error
    if any(not 0 < place < size for place in places[0] + places[1]):
        raise DamagedError(f"{path} has a record batch that lies outside of the file; get the file again")
    return places[0], places[1]


def stream_messages(data: memoryview, path: str) -> Iterator[Message]:
    """Yield every message of an IPC stream, checked.

    Raises:
        DamagedError: as `check_message`.
    """
    at = 0
    while at < len(data):
        message = check_message(data, at, path)
        if not message.nbytes:
            return
        yield message
        at += message.nbytes
    # The mark is optional where a stream can be seen to close; a file without it may lack its last batches.
    raise DamagedError(
        f"{path} lacks the mark that ends an Arrow stream; it is truncated, get the file again"
    )


def check_message(data: memoryview, at: int, path: str) -> Message:
    """Check the message at byte ``at``; the end of a stream has no bytes.

    Raises:
        DamagedError: it is cut off, malformed, or would decompress to more than 128 MiB.
    """
    try:
        length, head = struct.unpack_from("<I", data, at)[0], 4
        if length == _CONTINUATION:  # written since Arrow 0.15
            length, head = struct.unpack_from("<I", data, at + 4)[0], 8
        if length == 0:
            return Message(at, 0)
        start = at + head + length
        if length > _MAX_METADATA or start > len(data):
            raise DamagedError(f"{path} is cut off inside a message at byte {at:,}; get the file again")
        message = _Table.root(data[at + head : start])
        body_bytes = message.number(3, "<q")
        if not 0 <= body_bytes <= len(data) - start:
            raise DamagedError(f"{path} is cut off inside a record batch at byte {at:,}; get the file again")
        kind, batch = message.number(1, "<B"), message.table(2)
        if kind == _DICTIONARY_BATCH and batch is not None:
            batch = batch.table(1)
        if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH) or batch is None:
            return Message(at, start + body_bytes - at)
        compressed = batch.table(3) is not None
        if compressed:
            _check_buffers(batch, data[start : start + body_bytes], path)
        rows = max(0, batch.number(0, "<q"))
        return Message(at, start + body_bytes - at, kind == _RECORD_BATCH, rows, compressed)
    except (struct.error, ValueError, IndexError) as error:
        raise DamagedError(f"{path} has a message at byte {at:,} that cannot be followed: {error}") from error


def _check_buffers(batch: _Table, body: memoryview, path: str) -> None:
    total = 0
    for offset, length in batch.structs(2, _BUFFER).tolist():
        if length >= 8:
            total += max(struct.unpack_from("<q", body, offset)[0], 0)
        if total > _MAX_BATCH_BYTES:
            raise DamagedError(
                f"a record batch of {path} decompresses to more than {_MAX_BATCH_BYTES >> 20} MiB; "
                "write it again uncompressed or in smaller batches"
            )
