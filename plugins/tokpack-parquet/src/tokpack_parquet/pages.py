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
from tokpack_parquet.thrift import I32, STRUCT, Compact

__all__ = ["Page", "iter_pages", "rows_within"]

_DICTIONARY_PAGE = 2
_UNCOMPRESSED, _COMPRESSED = 2, 3
_HEADERS_WITH_COUNT = (5, 7, 8)  # data page, dictionary page, data page v2: field 1 counts the values
_MAGIC_BYTES = 4
_MAX_HEADER = 1 << 20


class Page(NamedTuple):
    """What a page header says: how many values, how many bytes once decompressed."""

    values: int
    nbytes: int
    is_dictionary: bool


def _parse(data: bytes) -> tuple[Page, int, int]:
    """Return (page, bytes of its header, bytes of its compressed body)."""
    reader = Compact(data)
    kind = values = uncompressed = compressed = -1
    for field, wire in reader.fields():
        if field == 1 and wire == I32:
            kind = reader.integer()
        elif field == _UNCOMPRESSED and wire == I32:
            uncompressed = reader.integer()
        elif field == _COMPRESSED and wire == I32:
            compressed = reader.integer()
        elif field in _HEADERS_WITH_COUNT and wire == STRUCT:
            for inner, inner_wire in reader.fields():
                if inner == 1 and inner_wire == I32:
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
    if start < _MAGIC_BYTES:  # where a chunk without pages is said to be
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
