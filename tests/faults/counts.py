"""How many cases a nightly run takes."""

from __future__ import annotations

import os


def scaled(cases: int) -> int:
    """Return the share of ``cases`` that TOKPACK_NIGHTLY asks for: 1 by default, 0.1 for a tenth."""
    return max(1, round(cases * float(os.environ.get("TOKPACK_NIGHTLY", "1"))))
