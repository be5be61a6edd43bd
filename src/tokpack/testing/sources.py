"""What every source must do."""

from __future__ import annotations

import itertools
import pickle
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokpack.errors import DocumentError, StorageError
from tokpack.plugins import discover
from tokpack.protocols import Problem, Source, SourceOptions
from tokpack.specs import SourceSpec, load
from tokpack.testing.rules import property_of_a_plugin, some_sizes

__all__ = ["SourceConformance"]

DOCUMENTS = ["one", "zwei é", "三 🙂", "", "  four\t", "five " * 30, "six", "x", "", "ten"]


class _Read(NamedTuple):
    documents: list[str]
    positions: list[int]
    problems: list[Problem]


class SourceConformance:
    """Subclass it, set ``name`` and ``suffix``, say how documents are written, and pytest does the rest."""

    #: Name of the source in the registry.
    name: ClassVar[str]
    #: Ending of the file that `write` writes.
    suffix: ClassVar[str]
    #: Options under which `write` is understood.
    options: ClassVar[SourceOptions] = SourceOptions()
    #: Documents that the input can hold; a format of lines holds no line ends.
    texts: ClassVar[st.SearchStrategy[str]] = st.text(max_size=20)
    #: Whether the input can hold empty documents.
    holds_empty: ClassVar[bool] = True

    @pytest.fixture
    def spec(self) -> SourceSpec:
        """The record under test; by default the one that is installed."""
        return discover().sources[self.name]

    def write(self, path: Path, documents: Sequence[str]) -> None:
        """Write ``documents`` so that the source finds them again."""
        raise NotImplementedError(f"{type(self).__name__} must say how documents are written: def write(…)")

    @property_of_a_plugin
    @given(data=st.data())
    def test_documents_come_back(self, spec: SourceSpec, data: st.DataObject) -> None:
        """Every document, in order, unchanged; empty ones are documents too."""
        documents = data.draw(
            st.lists(self.texts if self.holds_empty else self.texts.filter(bool), max_size=8)
        )
        with tempfile.TemporaryDirectory() as folder:
            path = self._written(Path(folder), documents)
            assert _read(_opened(spec, self.options), path).documents == documents

    def test_slices_never_matter(self, spec: SourceSpec, tmp_path: Path) -> None:
        """Any ``slice_bytes`` gives the same documents at the same positions."""
        path = self._written(tmp_path)
        source = _opened(spec, self.options)
        whole = _read(source, path)
        assert whole.documents == self._documents()
        for slice_bytes in some_sizes(path.stat().st_size + 1):
            assert _read(source, path, slice_bytes) == whole, slice_bytes

    def test_batches_never_matter(self, spec: SourceSpec, tmp_path: Path) -> None:
        """Any ``batch_bytes`` gives the same documents at the same positions."""
        path = self._written(tmp_path)
        whole = _read(_opened(spec, self.options), path)
        for batch_bytes in (1, 2, 7, 50, 1 << 16):
            options = replace(self.options, batch_bytes=batch_bytes)
            assert _read(_opened(spec, options), path) == whole, batch_bytes

    def test_batches_are_bounded(self, spec: SourceSpec, tmp_path: Path) -> None:
        """A batch is about ``batch_bytes`` and never the whole input."""
        path = self._written(tmp_path, ["0123456789" * 10] * 400)
        source = _opened(spec, replace(self.options, batch_bytes=1000))
        parts = source.plan(str(path), slice_bytes=1 << 30)
        sizes = [batch.texts.nbytes for part in parts for batch in source.read(part)]
        assert sum(sizes) == 40_000
        assert max(sizes) < 4000

    def test_slices_share_out_all_bytes(self, spec: SourceSpec, tmp_path: Path) -> None:
        """Each byte of the file is accounted to one slice, in order: progress and digests depend on it."""
        path = self._written(tmp_path)
        for slice_bytes in (1, 10, 100, 1 << 30):
            parts = _opened(spec, self.options).plan(str(path), slice_bytes=slice_bytes)
            assert parts[0].byte_start == 0
            assert parts[-1].byte_stop == path.stat().st_size
            assert all(a.byte_stop == b.byte_start for a, b in itertools.pairwise(parts))
            assert all(part.path == str(path) for part in parts)

    def test_the_plan_is_pure(self, spec: SourceSpec, tmp_path: Path) -> None:
        """The same input gives the same slices, each of which can be read alone, twice and in any order."""
        path = self._written(tmp_path)
        source = _opened(spec, self.options)
        parts = source.plan(str(path), slice_bytes=20)
        assert _opened(spec, self.options).plan(str(path), slice_bytes=20) == parts
        forwards = [[list(batch.texts) for batch in source.read(part)] for part in parts]
        backwards = [[list(batch.texts) for batch in source.read(part)] for part in reversed(parts)]
        assert backwards[::-1] == forwards

    def test_it_pickles(self, spec: SourceSpec, tmp_path: Path) -> None:
        """A worker's copy of source and slice reads the same documents."""
        path = self._written(tmp_path)
        source = _opened(spec, self.options)
        copy = pickle.loads(pickle.dumps(source))
        parts = pickle.loads(pickle.dumps(source.plan(str(path), slice_bytes=50)))
        read = [text for part in parts for batch in copy.read(part) for text in batch.texts]
        assert read == self._documents()

    def test_positions_rise(self, spec: SourceSpec, tmp_path: Path) -> None:
        """Each document has a position of its own, int64, so that a report can point at it."""
        path = self._written(tmp_path)
        source = _opened(spec, self.options)
        [part] = source.plan(str(path), slice_bytes=1 << 30)
        for batch in source.read(part):
            assert batch.positions.dtype == np.int64
            assert batch.positions.shape == (len(batch.texts),)
        assert all(a < b for a, b in itertools.pairwise(_read(source, path).positions))

    @pytest.mark.parametrize("batch_bytes", [1, 1 << 20])
    def test_a_document_too_large(self, spec: SourceSpec, tmp_path: Path, batch_bytes: int) -> None:
        """A document above ``max_document_bytes`` is a named error, or skipped and counted."""
        documents = ["small", "large " * 200, "end"]
        path = self._written(tmp_path, documents)
        options = replace(self.options, batch_bytes=batch_bytes, max_document_bytes=600)
        with pytest.raises(DocumentError, match=path.name):
            _read(_opened(spec, replace(options, on_error="fail")), path)
        for on_error in ("skip", "replace"):
            whole = _read(_opened(spec, replace(options, on_error=on_error)), path)
            assert whole.documents == ["small", "end"]
            [problem] = whole.problems
            assert (problem.reason, problem.action, problem.path) == ("too-large", "skipped", str(path))
            assert whole.positions[0] < problem.position < whole.positions[1]

    def test_no_such_file(self, spec: SourceSpec, tmp_path: Path) -> None:
        """A missing file is a `StorageError` that names it."""
        with pytest.raises(StorageError, match="missing"):
            _read(_opened(spec, self.options), tmp_path / f"missing{self.suffix}")

    def test_it_describes_itself(self, spec: SourceSpec, tmp_path: Path) -> None:
        """The plan shows a few words on one line."""
        words = _opened(spec, self.options).describe(str(self._written(tmp_path)))
        assert words
        assert "\n" not in words

    def test_claim_suffixes(self, spec: SourceSpec) -> None:
        """The record names the ending of the files that the source reads."""
        assert self.suffix in spec.suffixes

    def _documents(self) -> list[str]:
        return [text for text in DOCUMENTS if text or self.holds_empty]

    def _written(self, folder: Path, documents: Sequence[str] | None = None) -> Path:
        path = folder / f"input{self.suffix}"
        self.write(path, self._documents() if documents is None else documents)
        return path


def _opened(spec: SourceSpec, options: SourceOptions) -> Source:
    source: Source = load(spec.open)(options)
    return source


def _read(source: Source, path: Path, slice_bytes: int = 1 << 30) -> _Read:
    whole = _Read([], [], [])
    for part in source.plan(str(path), slice_bytes=slice_bytes):
        for batch in source.read(part):
            whole.documents.extend(batch.texts)
            whole.positions.extend(batch.positions.tolist())
            whole.problems.extend(batch.problems)
    return whole
