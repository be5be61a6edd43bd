"""Real text that a Linux machine has anyway: manuals in many languages, documentation, Python sources.

`python benchmarks/machine_text.py 100 OUT.txt` writes about 100 MB of different documents, separated by
`<|endoftext|>`, in an order that depends on the file names only.
"""

from __future__ import annotations

import gzip
import hashlib
import random
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SEPARATOR = "<|endoftext|>"
_LONGEST = 200_000
_SHORTEST = 500

#: Kind of text, its share, and where it lies.
_KINDS = {
    "prose": (
        0.67,
        [
            ("/usr/share/man", "*.gz"),
            ("/usr/share/doc", "*.gz"),
            ("/usr/share/doc", "*.txt"),
            ("/usr/share/doc", "*.md"),
            ("/usr/share/doc", "*.rst"),
            ("/usr/share/doc", "*.html"),
        ],
    ),
    "code": (0.33, [(sysconfig.get_path("purelib"), "*.py"), (sysconfig.get_path("stdlib"), "*.py")]),
}


def iter_documents(megabytes: float) -> Iterator[str]:
    """Yield about ``megabytes`` of documents, fewer if the machine has less; kinds are mixed."""
    documents = []
    for share, places in _KINDS.values():
        left = share * megabytes * 1e6
        for text in _texts(places):
            documents.append(text)
            left -= len(text.encode())
            if left <= 0:
                break
    random.Random(1).shuffle(documents)
    yield from documents


def _texts(places: list[tuple[str, str]]) -> Iterator[str]:
    paths = {path for folder, pattern in places for path in Path(folder).rglob(pattern)}
    ordered = sorted(path for path in paths if path.is_file() and not path.is_symlink())
    random.Random(0).shuffle(ordered)
    seen = set()
    for path in ordered:
        try:
            content = path.read_bytes()
            text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()[:_LONGEST]
        except (OSError, EOFError, ValueError):
            continue  # no text after all
        digest = hashlib.sha256(text.encode()).digest()
        if len(text) >= _SHORTEST and digest not in seen and SEPARATOR not in text:
            seen.add(digest)
            yield text


def write_documents(megabytes: float, path: Path) -> None:
    """Write `iter_documents` into one file, with a separator on a line of its own after each."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for text in iter_documents(megabytes):
            file.write(f"{text}\n{SEPARATOR}\n")


if __name__ == "__main__":
    write_documents(float(sys.argv[1]), Path(sys.argv[2]))
