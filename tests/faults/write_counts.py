"""Put the counts of two runs into the page of promises: what `make test` tries, and a nightly run.

TOKPACK_PROVED=quick.json pytest tests/faults -m "not nightly"
TOKPACK_PROVED=nightly.json TOKPACK_NIGHTLY=0.1 pytest tests/faults -m nightly
python tests/faults/write_counts.py quick.json nightly.json "a tenth"
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TypeAlias

Counts: TypeAlias = "dict[str, tuple[int, float]]"  # what → cases, seconds

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "explanation" / "promises.md", ROOT / "SECURITY.md"]
_HOSTILE = ("attacks", "hostile")  # what SECURITY.md tells of


def read(path: Path) -> Counts:
    return {what: (cases, seconds) for what, cases, seconds in json.loads(path.read_text())}


def table(quick: Counts, nightly: Counts, *starts: str) -> str:
    """One line for each thing tried, with what either run tried of it; a dash where it tried none."""
    lines = [
        "| what was tried | in `make test` | seconds | in the nightly run | seconds |",
        "|---|---:|---:|---:|---:|",
    ]
    for what in sorted({*quick, *nightly}):
        if what.startswith(starts or ("",)):
            cells = [
                cell
                for run in (quick, nightly)
                for cell in ((f"{run[what][0]:,}", f"{run[what][1]:,.0f}") if what in run else ("-", "-"))
            ]
            lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def replaced(text: str, name: str, content: str) -> str:
    """Put ``content`` between the two marks called ``name``, which must be there."""
    pattern = f"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)"
    changed, count = re.subn(pattern, lambda match: f"{match[1]}{content}\n{match[2]}", text, flags=re.DOTALL)
    assert count == 1, f"the marks of {name} are not there once"
    return changed


def both(quick: Counts, more: Counts) -> Counts:
    """`make nightly` tries what `make test` tries, and the slow variants."""
    total = dict(quick)
    for what, (cases, seconds) in more.items():
        before = total.get(what, (0, 0.0))
        total[what] = before[0] + cases, before[1] + seconds
    return total


def main(quick: Path, nightly: Path, share: str) -> None:
    counts = read(quick), both(read(quick), read(nightly))
    promises, security = PAGES
    text = replaced(promises.read_text(), "counts", table(*counts))
    promises.write_text(replaced(text, "share", f"Of the slow variants the run shown took: {share}."))
    security.write_text(replaced(security.read_text(), "counts", table(*counts, *_HOSTILE)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
