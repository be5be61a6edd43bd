"""Real documents of three kinds that a Linux machine has anyway; see `bpe_encode.py`."""

from __future__ import annotations

import gettext
import gzip
import hashlib
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

_SHORTEST, _LONGEST = 500, 200_000

_PLACES = {
    "prose": [
        *((f"/usr/share/man/man{section}", "*.gz") for section in range(1, 9)),
        *(
            ("/usr/share/doc", pattern)
            for pattern in ("*.txt", "*.md", "*.rst", "README*", "NEWS*", "*.html")
        ),
        *((sysconfig.get_path("purelib"), pattern) for pattern in ("*.md", "*.rst", "*.txt", "METADATA")),
    ],
    "code": [(sysconfig.get_path("stdlib"), "*.py"), (sysconfig.get_path("purelib"), "*.py")],
    "multilingual": [
        *((f"/usr/share/man/{language}", "*.gz") for language in ("ja", "zh_CN", "zh_TW", "ko", "ru", "uk")),
        *(
            (f"/usr/share/man/{language}", "*.gz")
            for language in ("de", "fr", "es", "pl", "cs", "tr", "pt_BR")
        ),
        *(
            (f"/usr/share/locale/{language}", "*.mo")
            for language in ("ar", "hi", "th", "el", "he", "bn", "ta")
        ),
        *((f"/usr/share/locale/{language}", "*.mo") for language in ("ja", "zh_CN", "ko", "ru", "vi", "fa")),
    ],
}


def documents_of_kind(kind: str, megabytes: float) -> list[str]:
    """Return about ``megabytes`` of different documents, fewer if there are no more, in a fixed order.

    Every place gives about as much as every other, so that no language or project outweighs the rest.
    """
    shares: list[list[str]] = []
    seen: set[bytes] = set()
    for folder, pattern in _PLACES[kind]:
        shares.append(list(_read(Path(folder), pattern, seen, megabytes * 1e6)))
    chosen, size = [], 0.0
    for at in range(max(map(len, shares))):
        for documents in shares:
            if at < len(documents) and size < megabytes * 1e6:
                chosen.append(documents[at])
                size += len(documents[at].encode())
    random.Random(1).shuffle(chosen)
    return chosen


def _read(folder: Path, pattern: str, seen: set[bytes], limit: float) -> Iterator[str]:
    paths = sorted(path for path in folder.rglob(pattern) if path.is_file() and not path.is_symlink())
    random.Random(0).shuffle(paths)
    size = 0
    for path in paths:
        text = _text(path)
        digest = hashlib.sha256(text.encode()).digest()
        if not _SHORTEST <= len(text) <= _LONGEST or digest in seen:
            continue
        seen.add(digest)
        size += len(text.encode())
        yield text
        if size > limit:
            return


def _text(path: Path) -> str:
    """Return a file's text; of a catalogue of translations, the translations."""
    try:
        if path.suffix == ".mo":
            with path.open("rb") as file:
                catalogue = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
            return "\n".join(text for text in catalogue.values() if isinstance(text, str))
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    except (OSError, UnicodeDecodeError, EOFError, ValueError):
        return ""
