"""What reading a bomb costs, measured in a process of its own (VmHWM: ru_maxrss begins at the parent's)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures resident memory as Linux counts it")

READ = """
import sys
from pathlib import Path
from tokpack.errors import DamagedError
from tokpack.protocols import SourceOptions
from tokpack_arrow.source import open_source

source = open_source(SourceOptions())
try:
    for part in source.plan(sys.argv[1], slice_bytes=1 << 23):
        for batch in source.read(part):
            pass
except DamagedError:
    print(int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) >> 10)
"""


@pytest.mark.parametrize("stream", [False, True])
def test_a_batch_that_expands(tmp_path: Path, stream: bool) -> None:
    path = tmp_path / "a.arrow"
    table = pa.table({"text": ["0" * 200_000_000]})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(path, table.schema, options=options) as file:
        file.write_table(table)
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 256
