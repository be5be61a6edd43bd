"""What reference libraries answer to the probe set, so that an engine can prove itself without asking again.

An engine encodes the probe set every time it is opened. The reference's side of the comparison is a digest
that depends on the library's version, its Unicode tables, the tokenizer's content and the probe set alone:
it is computed once and kept (`tokpack.cache`).
"""

from __future__ import annotations

import re
from pathlib import Path

from tokpack.cache import cache_key, cached_folder, discard
from tokpack.protocols import Tokenizer
from tokpack.tokenizers.probe import Encoder, digest_answers, probe_digest, unicode_version

__all__ = ["has_proved_itself"]

_DIGEST = re.compile(rb"[0-9a-f]{64}")
_NAME = "answers"


def has_proved_itself(engine: Encoder, reference: Tokenizer) -> bool:
    """Whether ``engine`` gives the reference's ids for the probe set and for its special tokens.

    Both are encoded with special tokens as text and parsed. A refusal is never taken from what was kept: then
    the reference is asked again.
    """
    ours = digest_answers(engine, reference.special_tokens)
    key = cache_key(
        "answers 1", reference.engine, unicode_version(reference), reference.content_digest, probe_digest()
    )
    entry = cached_folder("answers", key)
    if entry is not None:
        if _read(entry) == ours:
            return True
        discard(entry)
    theirs = digest_answers(reference, reference.special_tokens)
    cached_folder("answers", key, write=lambda folder: (folder / _NAME).write_text(theirs))
    return ours == theirs


def _read(entry: Path) -> str | None:
    try:
        content = (entry / _NAME).read_bytes()
    except OSError:
        return None
    return content.decode() if _DIGEST.fullmatch(content) else None
