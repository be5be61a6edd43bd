"""Just enough of Thrift's compact protocol to take some fields of a struct and step over the rest.

pyarrow hands out a column chunk's place only together with statistics that, when malformed, end the process;
and it hands out nothing of page headers. Both are read here instead. Protocol:
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["BINARY", "I32", "I64", "LIST", "STRUCT", "Compact"]

_TRUE, _FALSE, _BYTE, _I16, I32, I64, _DOUBLE, BINARY, LIST, _SET, _MAP, STRUCT = range(1, 13)
_MAX_DEPTH = 16


class Compact:
    """Reads ``data`` from ``at`` on; IndexError at its end, ValueError on what it does not know."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        """Return one byte."""
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        """Return an unsigned number."""
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
        """Return a signed number."""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield (field id, type) of a struct; the caller consumes each value before it asks on."""
        field = 0
        while head := self.byte():
            field = field + (head >> 4) if head >> 4 else self.integer()
            yield field, head & 0x0F

    def elements(self) -> Iterator[int]:
        """Yield the type of each element of a list; the caller consumes each before it asks on."""
        head = self.byte()
        count = self.varint() if head >> 4 == 15 else head >> 4
        if count > len(self.data) - self.at:  # each takes a byte or more
            raise IndexError("a list that goes on beyond the end")
        for _ in range(count):
            yield head & 0x0F

    def binary(self) -> bytes:
        """Return a string of bytes."""
        length = self.varint()
        self.at += length
        if self.at > len(self.data):
            raise IndexError("a string that goes on beyond the end")
        return self.data[self.at - length : self.at]

    def skip(self, kind: int, depth: int = 0, *, in_list: bool = False) -> None:
        """Step over a value. Most of a footer is stepped over, so this is written to be quick."""
        data = self.data
        if kind in (_I16, I32, I64):
            while data[self.at] >= 0x80:
                self.at += 1
            self.at += 1
        elif kind == BINARY:
            length = self.varint()
            self.at += length
        elif kind == STRUCT:
            if depth > _MAX_DEPTH:
                raise ValueError("structs nested too deeply")
            while head := self.byte():
                if not head >> 4:
                    self.varint()
                self.skip(head & 0x0F, depth + 1)
        elif kind in (LIST, _SET):
            if depth > _MAX_DEPTH:
                raise ValueError("lists nested too deeply")
            for element in self.elements():
                self.skip(element, depth + 1, in_list=True)
        elif kind in (_TRUE, _FALSE):
            self.at += in_list
        elif kind in (_BYTE, _DOUBLE):
            self.at += 1 if kind == _BYTE else 8
        else:
            raise ValueError(f"a field of type {kind}")
