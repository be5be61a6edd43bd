"""What every storage format must do."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokpack.batches import TokenBatch
from tokpack.dtypes import DTYPES
from tokpack.errors import TokpackError
from tokpack.plugins import discover
from tokpack.protocols import FormatReader, FormatWriter, IndexWriter
from tokpack.specs import FormatSpec, load
from tokpack.testing.rules import in_threads, property_of_a_plugin, some_sizes

__all__ = ["FormatConformance", "open_shard", "shard_bytes", "write_shard"]

Documents = list[list[int]]

#: Some formats have signed integers, and no vocabulary has two thousand million ids.
LARGEST_ID = 2**31 - 1

#: What `FormatConformance.golden` holds: no documents at the ends, the smallest and the largest id.
GOLDEN_DOCUMENTS: Documents = [[], [1, 2, 0, 65535], [], [7], [258] * 5, []]

_U16, _U32 = DTYPES["uint16"], DTYPES["uint32"]
_MAPPED_BYTES = 64 << 20

documents_of_16_bits = st.lists(st.lists(st.sampled_from([0, 1, 255, 256, 65535]), max_size=7), max_size=8)

_MEASURE = """
import sys
from pathlib import Path
import numpy as np
from tokpack.specs import load

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * __import__("resource").getpagesize()

reader_type = load(sys.argv[1])
small = reader_type(Path(sys.argv[2]), np.dtype("<u2"))
small.read(0, 1)
before = resident()
reader = reader_type(Path(sys.argv[3]), np.dtype("<u2"))
length = len(reader)
print(resident() - before)
"""


def batch_of(
    documents: Documents, dtype: np.dtype[Any], columns: Mapping[str, Any] | None = None
) -> TokenBatch:
    """Pack documents in the dtype of a shard."""
    batch = TokenBatch.from_documents(documents)
    return TokenBatch(batch.tokens.astype(dtype), batch.offsets, columns or {})


def shard_bytes(
    spec: FormatSpec, batches: Sequence[TokenBatch], dtype: np.dtype[Any], columns: Sequence[str] = ()
) -> bytes:
    """Return the content of a shard written batch by batch."""
    file = io.BytesIO()
    writer: FormatWriter = load(spec.writer)(file, dtype, columns, {})
    for batch in batches:
        writer.write(batch)
    writer.close()
    assert not file.closed, "close() must leave the file open: it is the caller's"
    return file.getvalue()


def write_shard(
    spec: FormatSpec,
    path: Path,
    batches: Sequence[TokenBatch],
    dtype: np.dtype[Any],
    columns: Sequence[str] = (),
) -> Path:
    """Write a shard to ``path``, as `shard_bytes`."""
    path.write_bytes(shard_bytes(spec, batches, dtype, columns))
    return path


def open_shard(spec: FormatSpec, path: Path, dtype: np.dtype[Any]) -> Any:
    """Open a shard with the reader of ``spec``."""
    reader: FormatReader = load(spec.reader)(path, dtype)
    return reader


class FormatConformance:
    """Subclass it, set ``name``, and pytest does the rest."""

    #: Name of the format in the registry.
    name: ClassVar[str]
    #: The bytes of a shard of `GOLDEN_DOCUMENTS` in uint16, from somewhere else than the writer under test.
    golden: ClassVar[bytes | None] = None

    @pytest.fixture
    def spec(self) -> FormatSpec:
        """The record under test; by default the one that is installed."""
        return discover().formats[self.name]

    @property_of_a_plugin
    @given(documents=documents_of_16_bits, cuts=st.lists(st.integers(0, 8), max_size=3), wide=st.booleans())
    def test_documents_come_back(
        self, spec: FormatSpec, documents: Documents, cuts: list[int], wide: bool
    ) -> None:
        """Whatever the documents and batches: the same tokens, and boundaries where it holds them."""
        dtype = _U32 if wide else _U16
        documents = [[*document, LARGEST_ID] if wide else document for document in documents]
        with tempfile.TemporaryDirectory() as folder:
            path = write_shard(
                spec, Path(folder) / f"shard{spec.suffix}", _split(documents, cuts, dtype), dtype
            )
            reader = open_shard(spec, path, dtype)
            wanted = batch_of(documents, dtype)
            assert len(reader) == len(wanted.tokens)
            _assert_same(reader.read(0, len(reader)), wanted.tokens)
            if spec.holds_documents:
                _assert_same(np.asarray(reader.offsets), wanted.offsets)
            reader.close()

    @property_of_a_plugin
    @given(documents=documents_of_16_bits, cuts=st.lists(st.integers(0, 8), max_size=3))
    def test_bytes_do_not_depend_on_batches(
        self, spec: FormatSpec, documents: Documents, cuts: list[int]
    ) -> None:
        """Datasets are byte-identical whatever the batch sizes; writing twice gives the same bytes."""
        whole = shard_bytes(spec, [batch_of(documents, _U16)], _U16)
        assert shard_bytes(spec, _split(documents, cuts, _U16), _U16) == whole

    def test_slices_equal_the_whole(self, spec: FormatSpec, tmp_path: Path) -> None:
        """``read(start, stop)`` is ``read(0, len)[start:stop]``, across whatever the file is made of."""
        documents = [[token] * token for token in range(9)]
        path = write_shard(spec, tmp_path / f"shard{spec.suffix}", _split(documents, [2, 5], _U16), _U16)
        reader = open_shard(spec, path, _U16)
        whole = np.array(reader.read(0, len(reader)))
        for start, stop in itertools.combinations_with_replacement(range(len(whole) + 1), 2):
            _assert_same(reader.read(start, stop), whole[start:stop])

    @pytest.mark.parametrize("dtype", [_U16, _U32], ids=str)
    def test_the_dtype_is_kept(self, spec: FormatSpec, tmp_path: Path, dtype: np.dtype[Any]) -> None:
        """Tokens are stored as they are, up to the largest id, and read in the dtype of the shard."""
        documents = [[0, min(int(np.iinfo(dtype).max), LARGEST_ID)]]
        path = write_shard(spec, tmp_path / f"shard{spec.suffix}", [batch_of(documents, dtype)], dtype)
        reader = open_shard(spec, path, dtype)
        assert reader.dtype == dtype
        assert reader.read(0, 2).dtype == dtype
        assert reader.read(0, 2).tolist() == documents[0]

    @pytest.mark.parametrize("batches", [0, 1, 2])
    def test_a_shard_may_be_empty(self, spec: FormatSpec, tmp_path: Path, batches: int) -> None:
        """A shard without tokens, or without batches, opens and has length 0."""
        path = write_shard(spec, tmp_path / f"shard{spec.suffix}", [batch_of([], _U16)] * batches, _U16)
        reader = open_shard(spec, path, _U16)
        assert len(reader) == 0
        assert reader.read(0, 0).tolist() == []

    def test_the_index_comes_back(self, spec: FormatSpec, tmp_path: Path) -> None:
        """Where boundaries lie beside the shard, they are written piece by piece and read as offsets."""
        if spec.holds_documents:
            pytest.skip("the shard holds them")
        lengths = np.array([3, 0, 5, 0, 0, 1], dtype=np.int64)
        path = tmp_path / f"shard{spec.index_suffix}"
        for cuts in ([], [2], [0, 1, 1, 6]):
            file = io.BytesIO()
            writer: IndexWriter = load(spec.index_writer)(file, _U16)
            for part in np.split(lengths, cuts):
                writer.write(part)
            writer.close()
            assert not file.closed, "close() must leave the file open: it is the caller's"
            path.write_bytes(file.getvalue())
            offsets = load(spec.index_reader)(path, _U16)
            _assert_same(np.asarray(offsets), np.array([0, 3, 3, 8, 8, 8, 9], dtype=np.int64))

    def test_gather_equals_reads(self, spec: FormatSpec, tmp_path: Path) -> None:
        """A reader with ``gather`` of its own gives what ``read`` gives, and refuses what lies outside."""
        documents: Documents = [[token] * token for token in range(9)]
        path = write_shard(spec, tmp_path / f"shard{spec.suffix}", _split(documents, [2, 5], _U16), _U16)
        reader = open_shard(spec, path, _U16)
        if not hasattr(reader, "gather"):
            pytest.skip("its tokens are one array")
        starts = np.random.default_rng(0).permutation(len(reader) - 4)
        out = np.empty((len(starts), 5), dtype=_U16)
        reader.gather(starts, out)
        assert out.tolist() == [reader.read(start, start + 5).tolist() for start in starts.tolist()]
        for start in (-1, len(reader) - 4):
            with pytest.raises(IndexError):
                reader.gather(np.array([start]), out[:1])

    def test_threads_agree(self, spec: FormatSpec, tmp_path: Path) -> None:
        """One reader serves many threads."""
        generator = np.random.default_rng(0)
        documents = [generator.integers(0, 65536, size).tolist() for size in (3000, 0, 1, 5000)]
        path = write_shard(spec, tmp_path / f"shard{spec.suffix}", [batch_of(documents, _U16)], _U16)
        reader, wanted = open_shard(spec, path, _U16), batch_of(documents, _U16).tokens

        def work() -> bool:
            return all(
                np.array_equal(reader.read(start, start + 701), wanted[start : start + 701])
                for start in range(0, len(wanted) - 701, 97)
            )

        assert all(in_threads(work))

    def test_views_outlive_the_reader(self, spec: FormatSpec, tmp_path: Path) -> None:
        """What ``read`` gave stays valid after ``close``."""
        path = write_shard(spec, tmp_path / f"shard{spec.suffix}", [batch_of([[1, 2, 3]], _U16)], _U16)
        reader = open_shard(spec, path, _U16)
        view = reader.read(0, 3)
        reader.close()
        del reader
        assert view.tolist() == [1, 2, 3]

    def test_columns_come_back(self, spec: FormatSpec, tmp_path: Path) -> None:
        """Each column that the record names is stored beside the tokens and read in any range."""
        documents: Documents = [[], [5, 6, 7], [8], []]
        tokens = batch_of(documents, _U16)
        values = {
            name: (np.arange(4) % 2 + shift % 2).astype(np.uint8) for shift, name in enumerate(spec.columns)
        }
        batch = TokenBatch(tokens.tokens, tokens.offsets, values)
        path = write_shard(spec, tmp_path / f"shard{spec.suffix}", [batch, batch], _U16, spec.columns)
        reader = open_shard(spec, path, _U16)
        _assert_same(reader.read(0, 8), np.concatenate([tokens.tokens, tokens.tokens]))
        for name, column in values.items():
            twice = np.concatenate([column, column])
            for start, stop in itertools.combinations_with_replacement(range(9), 2):
                assert reader.column(name, start, stop).tolist() == twice[start:stop].tolist()

    def test_a_truncated_file_is_never_misread(self, spec: FormatSpec, tmp_path: Path) -> None:
        """A file cut anywhere is a `TokpackError`, or gives fewer tokens: core knows sizes and digests."""
        documents: Documents = [[1, 2, 3], [], [40000] * 9]
        wanted = batch_of(documents, _U16).tokens
        whole = shard_bytes(spec, [batch_of(documents, _U16)], _U16)
        path = tmp_path / f"shard{spec.suffix}"
        for length in [0, *some_sizes(len(whole) - 1)]:
            path.write_bytes(whole[:length])
            try:
                reader = open_shard(spec, path, _U16)
                tokens = np.array(reader.read(0, len(reader)))
            except TokpackError:
                continue
            _assert_same(tokens, wanted[: len(tokens)])

    def test_golden_bytes(self, spec: FormatSpec, tmp_path: Path) -> None:
        """Writer and reader each agree with bytes from elsewhere, so that two equal mistakes are seen."""
        if self.golden is None:
            pytest.skip("the author gave no golden bytes")
        wanted = batch_of(GOLDEN_DOCUMENTS, _U16)
        assert shard_bytes(spec, [wanted], _U16) == self.golden
        (tmp_path / f"shard{spec.suffix}").write_bytes(self.golden)
        reader = open_shard(spec, tmp_path / f"shard{spec.suffix}", _U16)
        _assert_same(reader.read(0, len(reader)), wanted.tokens)

    def test_claim_holds_documents(self, spec: FormatSpec, tmp_path: Path) -> None:
        """``holds_documents`` means that the reader has ``offsets``; without it core keeps them elsewhere."""
        path = write_shard(spec, tmp_path / f"shard{spec.suffix}", [batch_of([[1], []], _U16)], _U16)
        assert hasattr(open_shard(spec, path, _U16), "offsets") == spec.holds_documents

    def test_claim_appendable(self, spec: FormatSpec) -> None:
        """``appendable`` means that the file is its tokens' bytes, so shards join by concatenation."""
        batch = batch_of([[1, 2], [], [65535]], _U16)
        content = shard_bytes(spec, [batch], _U16)
        assert content == batch.tokens.tobytes() or not spec.appendable

    def test_claim_memory_mapped(self, spec: FormatSpec, tmp_path: Path) -> None:
        """``memory_mapped`` means that opening a shard does not read its tokens (in a new process)."""
        if not spec.memory_mapped:
            pytest.skip("the record does not claim it")
        if not Path("/proc/self/statm").exists():
            pytest.skip("resident memory is read from /proc")
        small, large = np.zeros(8, dtype=_U16), np.zeros(_MAPPED_BYTES // 2, dtype=_U16)
        paths = []
        for name, tokens in (("small", small), ("large", large)):
            batch = TokenBatch(tokens, np.array([0, len(tokens)], dtype=np.int64))
            paths.append(str(write_shard(spec, tmp_path / f"{name}{spec.suffix}", [batch], _U16)))
        finished = subprocess.run(
            [sys.executable, "-c", _MEASURE, spec.reader, *paths],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(finished.stdout) < _MAPPED_BYTES // 4, "opening read the tokens"


def _split(documents: Documents, cuts: Sequence[int], dtype: np.dtype[Any]) -> list[TokenBatch]:
    edges = [0, *sorted(min(cut, len(documents)) for cut in cuts), len(documents)]
    return [batch_of(documents[a:b], dtype) for a, b in itertools.pairwise(edges)]


def _assert_same(found: NDArray[Any], wanted: NDArray[Any]) -> None:
    assert found.dtype == wanted.dtype
    assert found.tolist() == wanted.tolist()
