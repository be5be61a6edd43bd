"""The conformance kit: what a plugin must do, as pytest classes to subclass.

Needs pytest and hypothesis (``pip install tokpack[testing]``).
"""

from __future__ import annotations

from tokpack.testing.shared import shared_data

__all__ = ["shared_data"]
