"""What this distribution announces. Imported by every `tokpack` command, so it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

from tokpack.hookspecs import hookimpl
from tokpack.specs import FormatSpec

TOKPACK_HOOK_VERSION = 1


@hookimpl
def tokpack_register_formats() -> Iterable[FormatSpec]:
    """Announce the format."""
    yield FormatSpec(
        "digits",
        "one document per line, ids in decimal: for eyes, diff and awk",
        suffix=".digits",
        writer="tokpack_example.digits:DigitsWriter",
        reader="tokpack_example.digits:DigitsReader",
    )
