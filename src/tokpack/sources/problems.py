"""What can be wrong with a document, and what the user wants done about it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from tokpack.errors import DocumentError
from tokpack.protocols import OnError, Problem

__all__ = ["REASONS", "Reason", "describe_ill_formed", "settle"]

Reason: TypeAlias = Literal[
    "invalid-utf8",
    "bad-csv",
    "bad-json",
    "missing-field",
    "not-a-string",
    "lone-surrogate",
    "null",
    "too-large",
    "bad-chat",
    "special-token",
]

#: Every word that a source of tokpack's own writes into `Problem.reason`, and what it means.
REASONS: Mapping[Reason, str] = MappingProxyType(
    {
        "invalid-utf8": "bytes that are not UTF-8; replaced, each maximal ill-formed part is one U+FFFD",
        "bad-csv": "a row whose quotes do not match; never replaced",
        "bad-json": "a line that is not one JSON object; never replaced",
        "missing-field": "an object without the text field; never replaced",
        "not-a-string": "a text field that holds something else, null included; never replaced",
        "lone-surrogate": "half of a surrogate pair, out of a \\u escape; replaced, it is U+FFFD",
        "null": "a row without a value; passed over and counted, whatever is asked for",
        "bad-chat": "a conversation or pair that has not the right form, or that the chat template refuses",
        "special-token": "a text that spells a special token where that is not allowed; never replaced",
        "too-large": "a document (JSONL: a line) above max_document_bytes; never replaced",
    }
)

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_REPLACEABLE: frozenset[Reason] = frozenset({"invalid-utf8", "lone-surrogate"})


def describe_ill_formed(document: bytes, at: int) -> str:
    """Return the detail of ``invalid-utf8``, with a hint where the file seems to be UTF-16."""
    detail = f"byte 0x{document[at]:02x} at {at:,} of it"
    if document.startswith(_UTF16_MARKS):
        return f"{detail}, the byte order mark of UTF-16: convert the file with iconv"
    return detail


def settle(
    reason: Reason, path: str, position: int, detail: str, *, on_error: OnError, unit: str = "byte"
) -> Problem:
    """Return the problem with what is done about it: ``replaced`` where asked for and possible, else
    ``skipped``. ``unit`` says what ``position`` counts.

    Raises:
        DocumentError: ``on_error`` is ``fail``.
    """
    replaceable = reason in _REPLACEABLE
    if on_error == "fail":
        remedy = "--on-error skip or replace" if replaceable else "--on-error skip"
        raise DocumentError(
            f"{path}: {reason} in the document at {unit} {position:,}: {detail}; repair it, or use {remedy}"
        )
    replaced = on_error == "replace" and replaceable
    return Problem(reason, path, position, detail, "replaced" if replaced else "skipped")
