"""Bugs put into a copy of the code on purpose, each with the quick tests that must fail because of it.

A bug is a text of one file and what replaces it. Code moves on: where a text is not found exactly once, the
test says which, and the bug is to be written anew for the present code, not removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]
GROUPS = 4  # `make test` takes one of them, `make nightly` all


@dataclass(frozen=True, slots=True)
class SeededBug:
    """``file`` is relative to the repository, ``tests`` are node ids of pytest."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, content: str) -> str:
        """Return the file's text with the bug in it."""
        found = content.count(self.old)
        assert found == 1, (
            f"seeded bug {self.name!r}: its text occurs {found} times in {self.file}, it must occur once. "
            f"The code has changed: write the bug anew in tests/faults/seeded_in_*.py:\n{self.old}"
        )
        changed = content.replace(self.old, self.new)
        assert changed != content
        return changed


def group_of(choice: str, version: str) -> int:
    """Which group a quick run takes: ``choice`` (a number) if given, else one that follows from the version.

    Equal code makes an equal choice, so a run that fails fails again; each release takes another group.
    """
    return (int(choice) if choice else int(sha256(version.encode()).hexdigest(), 16)) % GROUPS
