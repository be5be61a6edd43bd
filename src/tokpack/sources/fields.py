"""The text field of a JSON object, decoded without building the rest of the object."""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from tokpack.sources.problems import Reason, describe_ill_formed

__all__ = ["Broken", "RecordFields", "TextField"]

# A surrogate pair, half of one, or any other escape, so that the u of "\\ud800" is not taken for one.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
# msgspec's own errors and UnicodeDecodeError are ValueErrors; nesting too deep is a RecursionError.
_REFUSED = (ValueError, RecursionError)


class Broken(NamedTuple):
    """Why a line has no text; ``mended`` is the text where it can be had by replacement."""

    reason: Reason
    detail: str
    mended: str = ""


class TextField:
    """Decodes the string at ``path`` ("text", or dotted: "meta.body") of JSON objects."""

    def __init__(self, path: str) -> None:
        names = path.split(".")
        kind: Any = str
        for name in reversed(names):
            kind = msgspec.defstruct("Line", [("value", kind)], rename={"value": name}, gc=False)
        self._name = path
        self._value = attrgetter(".".join(["value"] * len(names)))
        self._decoder = msgspec.json.Decoder(kind)
        self._levels = [_raw_decoder(name) for name in names]

    def decode_lines(self, lines: memoryview) -> list[str] | None:
        """Return the texts of many objects, or None where any of them is broken."""
        try:
            return list(map(self._value, self._decoder.decode_lines(lines)))
        except _REFUSED:
            return None

    def decode(self, line: bytes) -> str | Broken:
        """Return the text of one object, or what is wrong with it."""
        text = self._text(line)
        return self._diagnose(line) if text is None else text

    def _text(self, line: bytes) -> str | None:
        try:
            text: str = self._value(self._decoder.decode(line))
        except _REFUSED:
            return None
        return text

    def _diagnose(self, line: bytes) -> str | Broken:
        try:
            line.decode()
        except UnicodeDecodeError as error:
            mended = self.decode(line.decode("utf-8", "replace").encode())
            detail = describe_ill_formed(line, error.start)
            if isinstance(mended, Broken):  # for another reason, which the invalid bytes may explain
                return mended._replace(detail=f"{mended.detail}; not UTF-8 either: {detail}")
            return Broken("invalid-utf8", detail, mended)
        # The decoder refuses lone surrogates anywhere. Put in two different characters for them: where the
        # texts are equal, they stood in a field that nobody asked for.
        text, other = (self._text(_without_lone_surrogates(line, by)) for by in (b"ufffd", b"ufffe"))
        if text is None:
            return self._misfit(_without_lone_surrogates(line, b"ufffd"))
        return text if text == other else Broken("lone-surrogate", "an escape for half of a pair", text)

    def _misfit(self, line: bytes) -> Broken:
        value: Any = line
        for depth, level in enumerate(self._levels):
            try:
                value = level.decode(value).value
            except msgspec.ValidationError as error:
                if depth == 0:
                    return Broken("bad-json", f"{error}")
                value = msgspec.UNSET
            except msgspec.DecodeError as error:
                return Broken("bad-json", f"{error}")
            except RecursionError:
                return Broken("bad-json", "nested too deeply")
            if value is msgspec.UNSET:
                return Broken("missing-field", f"it has no field {self._name!r}; name it by --text-field")
        found = bytes(value)[:20].decode(errors="replace")
        return Broken("not-a-string", f"field {self._name!r} holds {found}")


class RecordFields:
    """Takes some fields of JSON objects as they stand, for records such as conversations.

    What comes out is a JSON object of those that are there; the first must be.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._required = names[0]
        fields = [
            (f"field{number}", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for number in range(len(names))
        ]
        rename = {f"field{number}": name for number, name in enumerate(names)}
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
            msgspec.defstruct("Record", fields, rename=rename, gc=False)
        )

    def decode_lines(self, lines: memoryview) -> list[str] | None:
        """Return None: records are few and large, and each gets a closer look."""
        return None

    def decode(self, line: bytes) -> str | Broken:
        """Return the record of one object, or what is wrong with it."""
        try:
            found = self._decoder.decode(line)
            record = msgspec.json.encode(found)
            msgspec.json.decode(record)  # the fields were taken unseen so far
        except _REFUSED as error:
            return self._diagnose(line, error)
        if found.field0 is msgspec.UNSET:
            return Broken("missing-field", f"it has no field {self._required!r}; name the one that it has")
        return record.decode()

    def _diagnose(self, line: bytes, error: Exception) -> str | Broken:
        try:
            line.decode()
        except UnicodeDecodeError as wrong:
            mended = self.decode(line.decode("utf-8", "replace").encode())
            reason = Broken("invalid-utf8", f"byte 0x{line[wrong.start]:02x} at {wrong.start:,} of it")
            return mended if isinstance(mended, Broken) else reason._replace(mended=mended)
        if (whole := _without_lone_surrogates(line, b"ufffd")) != line:
            mended = self.decode(whole)
            if isinstance(mended, Broken) or mended == self.decode(_without_lone_surrogates(line, b"ufffe")):
                return mended  # what is wrong is something else, or stands in a field that nobody asked for
            return Broken("lone-surrogate", "an escape for half of a pair", mended)
        deep = isinstance(error, RecursionError)
        return Broken("bad-json", "nested too deeply" if deep else f"{error}")


def _raw_decoder(name: str) -> msgspec.json.Decoder[Any]:
    kind = msgspec.defstruct(
        "Level", [("value", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET)], rename={"value": name}
    )
    return msgspec.json.Decoder(kind)


def _without_lone_surrogates(line: bytes, by: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: b"\\" + by if match[1] else match[0], line)
