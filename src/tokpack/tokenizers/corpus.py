"""The text of some input files as one stream of batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

from tokpack.batches import TextBatch
from tokpack.plugins import Plugins
from tokpack.protocols import Source, SourceOptions
from tokpack.sources.inputs import InputFile
from tokpack.specs import load

__all__ = ["Corpus", "Progress"]

#: Called as progress(phase, done, total); total is 0 where it is not known.
Progress: TypeAlias = Callable[[str, int, int], None]

_SLICE_BYTES = 8 << 20


class Corpus:
    """The documents of some inputs, in order, at most ``limit_bytes`` of them. Counts what it hands out.

    Documents are a pure function of inputs and options: the limit falls on the same byte whatever the sizes
    of slices and batches are.
    """

    def __init__(
        self,
        inputs: Sequence[InputFile],
        options: SourceOptions,
        *,
        plugins: Plugins,
        limit_bytes: int | None = None,
    ) -> None:
        kinds = {item.kind for item in inputs}
        self._sources: dict[str, Source] = {kind: load(plugins.sources[kind].open)(options) for kind in kinds}
        self._inputs = inputs
        self._limit_bytes = limit_bytes
        self._input_bytes_done = 0
        self.documents = 0
        self.text_bytes = 0
        self.problems: Counter[str] = Counter()

    def __iter__(self) -> Iterator[TextBatch]:
        for item in self._inputs:
            source = self._sources[item.kind]
            for part in source.plan(item.path, slice_bytes=_SLICE_BYTES):
                for batch in source.read(part):
                    self.problems.update(problem.reason for problem in batch.problems)
                    texts, is_last = self._within_limit(batch.texts)
                    self.documents += len(texts)
                    self.text_bytes += texts.nbytes
                    yield texts
                    if is_last:
                        return
                self._input_bytes_done += part.byte_stop - part.byte_start

    def track(self, progress: Progress | None) -> Progress | None:
        """Say how much of the input is read where the reporter does not know how much there is to do."""
        if progress is None:
            return None
        input_bytes = sum(item.size_bytes for item in self._inputs)

        def tracked(phase: str, done: int, total: int) -> None:
            progress(phase, *((done, total) if total else (self._input_bytes_done, input_bytes)))

        return tracked

    def _within_limit(self, texts: TextBatch) -> tuple[TextBatch, bool]:
        """Return what of ``texts`` lies within the limit, cut before a character, and whether that is all."""
        if self._limit_bytes is None or self.text_bytes + texts.nbytes < self._limit_bytes:
            return texts, False
        limit = min(self._limit_bytes - self.text_bytes, texts.nbytes)
        while 0 < limit < texts.nbytes and texts.data[limit] & 0xC0 == 0x80:
            limit -= 1
        whole = int(np.searchsorted(texts.offsets, limit, side="left"))
        return TextBatch(texts.data[:limit], np.append(texts.offsets[:whole], np.int64(limit))), True
