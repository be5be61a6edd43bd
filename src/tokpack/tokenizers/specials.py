"""Documents that spell a special token, found in the flat bytes of a batch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

from tokpack.batches import TextBatch
from tokpack.errors import SpecialTokenError

__all__ = ["find_spelled", "refuse_spelled", "spelling_pattern"]


def spelling_pattern(special_tokens: Iterable[str]) -> re.Pattern[bytes] | None:
    """Return a pattern that matches any of ``special_tokens``, the longest first; None if there is none."""
    spelled = sorted(
        {token.encode() for token in special_tokens if token}, key=lambda token: (-len(token), token)
    )
    return re.compile(b"|".join(map(re.escape, spelled))) if spelled else None


def find_spelled(texts: TextBatch, pattern: re.Pattern[bytes] | None) -> Iterator[tuple[int, int, int]]:
    """Yield (document, start, stop) of every special token spelled, in bytes of ``texts.data``.

    What only comes about where two documents meet is not there.
    """
    if pattern is None:
        return
    place, data = 0, texts.data.data
    while (found := pattern.search(data, place)) is not None:
        start, stop = found.span()
        document = int(np.searchsorted(texts.offsets, start, side="right")) - 1
        if stop <= texts.offsets[document + 1]:
            yield document, start, stop
            place = stop
        else:
            place = start + 1


def refuse_spelled(texts: TextBatch, pattern: re.Pattern[bytes] | None) -> None:
    """Raise SpecialTokenError for the first document that spells a special token."""
    for document, start, stop in find_spelled(texts, pattern):
        token = str(texts.data.data[start:stop], "utf-8")
        raise SpecialTokenError(
            f"document {document} of the batch spells the special token {token!r} at byte "
            f"{start - int(texts.offsets[document]):,}; clean the text, or choose --special text or parse",
            document=document,
        )
