"""The contract, by the kit that every plugin author uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from tokpack.testing import FormatConformance, PluginConformance, SourceConformance


class TestPlugin(PluginConformance):
    module = "tokpack_arrow.plugin"


class TestFormat(FormatConformance):
    name = "arrow"


class TestSource(SourceConformance):
    name, suffix = "arrow", ".arrow"

    def write(self, path: Path, documents: Sequence[str]) -> None:
        table = pa.table({"id": pa.array(range(len(documents))), "text": pa.array(documents, pa.string())})
        with path.open("wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            for batch in table.to_batches(max_chunksize=3):
                writer.write_batch(batch)
