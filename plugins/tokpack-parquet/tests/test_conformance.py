"""The contract, by the kit that every plugin author uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tokpack.testing import FormatConformance, PluginConformance, SourceConformance


class TestPlugin(PluginConformance):
    module = "tokpack_parquet.plugin"


class TestFormat(FormatConformance):
    name = "parquet"


class TestSource(SourceConformance):
    name, suffix = "parquet", ".parquet"

    def write(self, path: Path, documents: Sequence[str]) -> None:
        table = pa.table({"id": pa.array(range(len(documents))), "text": pa.array(documents, pa.string())})
        pq.write_table(table, path, row_group_size=3)
