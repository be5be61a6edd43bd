"""What reading costs, measured in a process of its own: memory freed by this one would hide it.

VmHWM, since a child's ru_maxrss begins at what its parent had.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures resident memory as Linux counts it")

READ = """
import sys
from pathlib import Path
from tokpack.errors import TokpackError
from tokpack.protocols import SourceOptions
from tokpack_parquet.source import open_source

source, documents, ending = open_source(SourceOptions()), 0, "end"
try:
    for part in source.plan(sys.argv[1], slice_bytes=1 << 23):
        for batch in source.read(part):
            documents += len(batch.texts)
            if documents > int(sys.argv[2]):
                raise SystemExit
except TokpackError as error:
    ending = type(error).__name__
finally:
    print(documents, ending, int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) >> 10)
"""


def read(path: Path, *, at_most: int = 10**9) -> tuple[int, str, int]:
    """Return (documents, how it ended, peak resident MiB)."""
    command = [sys.executable, "-c", READ, str(path), str(at_most)]
    done = subprocess.run(command, capture_output=True, text=True)
    documents, ending, peak = done.stdout.split()
    return int(documents), ending, int(peak)


def test_a_page_that_expands(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": ["0" * 150_000_000]})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    documents, ending, peak = read(path)
    assert (documents, ending) == (0, "DamagedError")
    assert peak < 256


def test_a_dictionary_that_multiplies(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["x" * 1_000_000]))
    pq.write_table(pa.table({"text": words}), path, compression="zstd")
    _, ending, peak = read(path, at_most=2_000)
    assert ending == "end"
    assert peak < 320  # 256 MB and 64 MB for the one worker


@pytest.mark.nightly
def test_one_row_group_of_a_gigabyte(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    letters = np.random.default_rng(0).integers(97, 122, (2_000, 3_000), np.uint8)
    chunks = [
        pa.array([f"{number} {row} " + letters[row].tobytes().decode() for row in range(2_000)])
        for number in range(200)
    ]
    table = pa.table({"text": pa.chunked_array(chunks)})
    pq.write_table(table, path, compression="zstd", row_group_size=10**9)
    assert pq.read_metadata(path).num_row_groups == 1
    documents, ending, peak = read(path)
    assert (documents, ending) == (400_000, "end")
    assert peak < 320
