"""Put the counts of a run into the page of promises.

TOKPACK_PROVED=counts.json pytest tests/faults; python tests/faults/write_counts.py counts.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "promises.md"


def main(counts: Path) -> None:
    rows = [
        f"| {what} | {cases:,} | {seconds:,.0f} |" for what, cases, seconds in json.loads(counts.read_text())
    ]
    table = "\n".join(["| what was tried | cases | seconds |", "|---|---:|---:|", *rows])
    text = re.sub(
        "(<!-- counts: begin -->\n).*?(<!-- counts: end -->)",
        lambda match: f"{match[1]}{table}\n{match[2]}",
        PAGE.read_text(),
        flags=re.DOTALL,
    )
    PAGE.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
