"""Reading page headers, so that what a column chunk expands to is known before any of it is decompressed.

A Parquet page states its size after decompression in a Thrift header right before it. Decoders allocate what
the header says; this module looks first. Layout: https://parquet.apache.org/docs/file-format/ and Thrift's
compact protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from tokpack.errors import DamagedError

__all__ = ["Page", "iter_pages", "rows_within"]

_DICTIONARY_PAGE = 2
_UNCOMPRESSED, _COMPRESSED = 2, 3
_HEADERS_WITH_COUNT = (5, 7, 8)  # data page, dictionary page, data page v2: field 1 counts the values
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_MAGIC = b"PAR1"
_MAX_DEPTH = 16
_MAX_HEADER = 1 << 20


class Page(NamedTuple):
    """What a page header says: how many values, how many bytes once decompressed."""

    values: int
    nbytes: int
    is_dictionary: bool


class _Compact:
    """Just enough of Thrift's compact protocol to take a few integers and step over the rest."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            part = self.byte()
            value |= (part & 0x7F) << shift
            if part < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number longer than 64 bits")

    def integer(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield (field id, type) of a struct; the caller consumes each value before it asks on."""
        field = 0
        while head := self.byte():
            field = field + (head >> 4) if head >> 4 else self.integer()
            yield field, head & 0x0F

    def skip(self, kind: int, depth: int = 0, *, in_list: bool = False) -> None:
        if depth > _MAX_DEPTH:
            raise ValueError("a header nested too deeply")
        if kind in (_TRUE, _FALSE):
            self.at += in_list
        elif kind == _BYTE:
            self.at += 1
        elif kind in (_I16, _I32, _I64):
            self.varint()
        elif kind == _DOUBLE:
            self.at += 8
        elif kind == _BINARY:
            length = self.varint()
            self.at += length
        elif kind in (_LIST, _SET):
            head = self.byte()
            for _ in range(self.varint() if head >> 4 == 15 else head >> 4):
                self.skip(head & 0x0F, depth + 1, in_list=True)
        elif kind == _STRUCT:
            for _, inner in self.fields():
                self.skip(inner, depth + 1)
        else:
            raise ValueError(f"a field of type {kind}")


def _parse(data: bytes) -> tuple[Page, int, int]:
    """Return (page, bytes of its header, bytes of its compressed body)."""
    reader = _Compact(data)
    kind = values = uncompressed = compressed = -1
    for field, wire in reader.fields():
        if field == 1 and wire == _I32:
            kind = reader.integer()
        elif field == _UNCOMPRESSED and wire == _I32:
            uncompressed = reader.integer()
        elif field == _COMPRESSED and wire == _I32:
            compressed = reader.integer()
        elif field in _HEADERS_WITH_COUNT and wire == _STRUCT:
            for inner, inner_wire in reader.fields():
                if inner == 1 and inner_wire == _I32:
                    values = reader.integer()
                else:
                    reader.skip(inner_wire, 1)
        else:
            reader.skip(wire)
    if min(values, uncompressed, compressed) < 0:
        raise ValueError("a header without sizes")
    return Page(values, uncompressed, kind == _DICTIONARY_PAGE), reader.at, compressed


def iter_pages(file: BinaryIO, *, start: int, length: int, path: str) -> Iterator[Page]:
    """Yield the pages of the column chunk in bytes [start, start + length) of ``file``.

    Raises:
        DamagedError: a header is malformed, or a page would reach beyond the chunk.
    """
    at, stop = start, start + length
    if start < len(_MAGIC):  # where a chunk without pages is said to be
        return
    while at < stop:
        for size in (1 << 10, _MAX_HEADER):
            file.seek(at)
            head = file.read(min(size, stop - at))
            try:
                page, header_bytes, body_bytes = _parse(head)
                break
            except IndexError:
                continue  # the header is longer than what was read
            except ValueError as error:
                raise DamagedError(
                    f"{path} has {error} in a page at byte {at:,}; get the file again"
                ) from error
        else:
            raise DamagedError(f"{path} has no end to a page header at byte {at:,}; get the file again")
        at += header_bytes + body_bytes
        if at > stop:
            raise DamagedError(f"{path} has a page that reaches beyond its column chunk; get the file again")
        yield page


def rows_within(pages: list[Page], budget: int, *, most: int) -> int:
    """Return how many rows, at most ``most``, decode together to about ``budget`` bytes at worst.

    For a flat column, where a row is a value. Plain pages are as large as they say; a row that refers to a
    dictionary may be as long as the whole dictionary.
    """
    dictionary = max((page.nbytes for page in pages if page.is_dictionary), default=0)
    rows = min(most, max(1, budget // dictionary)) if dictionary else most
    data = [page for page in pages if not page.is_dictionary]
    if not data:
        return rows
    starts = np.cumsum([0, *(page.values for page in data)])
    ends = np.cumsum([0, *(page.nbytes for page in data)])
    while rows > 1:
        last = np.searchsorted(starts, starts[:-1] + rows, side="left").clip(max=len(data))
        if (ends[last] - ends[:-1]).max() <= budget:
            break
        rows //= 2
    return rows
