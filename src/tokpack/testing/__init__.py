"""The conformance kit: what a plugin must do, as pytest classes to subclass.

    from tokpack.testing import FormatConformance

    class TestParquet(FormatConformance):
        name = "parquet"

One class per contract of `tokpack.protocols`. What is asked of a plugin follows from what its record claims,
and a false claim fails. Needs pytest and hypothesis (``pip install tokpack[testing]``).
"""

from __future__ import annotations

import pytest

# Before the modules are imported: then a failing rule shows the values, in every author's run as in ours.
pytest.register_assert_rewrite(
    *(
        f"tokpack.testing.{module}"
        for module in ("executors", "expected", "formats", "plugins", "samplers", "sources", "tokenizers")
    )
)

from tokpack.testing.executors import ExecutorConformance  # noqa: E402
from tokpack.testing.formats import FormatConformance  # noqa: E402
from tokpack.testing.plugins import PluginConformance, isolated_plugins  # noqa: E402
from tokpack.testing.samplers import SamplerConformance  # noqa: E402
from tokpack.testing.shared import shared_data  # noqa: E402
from tokpack.testing.sources import SourceConformance  # noqa: E402
from tokpack.testing.tokenizers import TokenizerConformance  # noqa: E402

__all__ = [
    "ExecutorConformance",
    "FormatConformance",
    "PluginConformance",
    "SamplerConformance",
    "SourceConformance",
    "TokenizerConformance",
    "isolated_plugins",
    "shared_data",
]
