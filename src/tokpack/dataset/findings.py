"""What a verification finds: the findings, and the report of them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tokpack.dataset.manifest import Manifest
from tokpack.dataset.store import Dataset

__all__ = ["Finding", "Kind", "Report", "Search"]

Kind: TypeAlias = Literal["damaged", "unreadable", "mismatch"]
_EXIT_CODES: dict[Kind, int] = {"damaged": 1, "unreadable": 4, "mismatch": 5}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be."""

    kind: Kind
    path: str  # relative to the dataset
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found; ``notes`` name what could not be checked and why."""

    manifest: Manifest
    findings: Sequence[Finding]
    notes: Sequence[str]
    bytes_hashed: int

    @property
    def exit_code(self) -> int:
        """0 if all is well, else the code of the worst finding: unreadable, damaged, mismatch."""
        kinds = {finding.kind for finding in self.findings}
        return next((_EXIT_CODES[kind] for kind in ("damaged", "unreadable", "mismatch") if kind in kinds), 0)


@dataclass(slots=True)
class Search:
    """A verification under way."""

    dataset: Dataset
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bytes_hashed: int = 0

    def add(self, path: str, message: str, kind: Kind = "damaged") -> None:
        """Note a finding about the file ``path``."""
        self.findings.append(Finding(kind, path, message))

    def bad(self, path: str) -> bool:
        """Whether there is a finding about the file ``path`` already."""
        return any(finding.path == path for finding in self.findings)

    def report(self) -> Report:
        """Return all findings, by file."""
        ordered = sorted(self.findings, key=lambda finding: (finding.path, finding.message))
        return Report(self.dataset.manifest, tuple(ordered), tuple(self.notes), self.bytes_hashed)
