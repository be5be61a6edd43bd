"""Writing the shards of a split: one file after the other, and what the manifest says of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tokpack.batches import TextBatch, TokenBatch
from tokpack.dataset.digest import LogicalDigest
from tokpack.dataset.manifest import FileInfo, Shard, Split
from tokpack.dataset.publish import HashingFile, publish
from tokpack.dtypes import COLUMN_DTYPES
from tokpack.npy_file import NpyArrayWriter
from tokpack.protocols import FormatWriter
from tokpack.specs import FormatSpec, load

__all__ = ["ShardLayout", "SplitWriter", "documents"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardLayout:
    """How the shards of a dataset are written; the same for all of its splits."""

    folder: Path
    format: FormatSpec
    options: Mapping[str, str]
    dtype: np.dtype[Any]
    vocab_size: int
    columns: tuple[str, ...] = ()
    shard_bytes: int | None = None  # token bytes after which a shard ends; None: no such limit
    numbered: bool = False  # train-00000.bin instead of train.bin
    texts: Callable[[TokenBatch], TextBatch] | None = None  # for a format that stores texts as well

    def name(self, split: str, index: int) -> str:
        """Return the file name of shard ``index``."""
        return f"{split}-{index:05d}{self.format.suffix}" if self.numbered else f"{split}{self.format.suffix}"


class _Beside(NamedTuple):
    """A file beside the shard's own."""

    name: str
    file: HashingFile
    writer: Any


class _OpenShard:
    """One shard while it is written, with the files beside it: boundaries and columns it does not hold."""

    def __init__(self, layout: ShardLayout, name: str) -> None:
        self._layout = layout
        self._name = name
        self._stem = name.removesuffix(layout.format.suffix)
        self.documents = self.tokens = 0
        self._low: int | None = None
        self._high: int | None = None
        # Files are published when the stack closes well, and removed when it closes on an error.
        self._stack = ExitStack()
        self._file = self._stack.enter_context(publish(layout.folder / name))
        inside = tuple(column for column in layout.columns if column in layout.format.columns)
        self._writer: FormatWriter = load(layout.format.writer)(
            self._file.as_binary(), layout.dtype, inside, layout.options
        )
        self._index: _Beside | None = None
        if not layout.format.holds_documents:
            open_index = load(layout.format.index_writer)
            self._index = self._beside(layout.format.index_suffix, open_index, layout.dtype)
        self._columns = {
            column: self._beside(f".{column}.npy", NpyArrayWriter, COLUMN_DTYPES[column])
            for column in layout.columns
            if column not in inside
        }

    def _beside(self, suffix: str, open_writer: Callable[..., Any], dtype: np.dtype[Any]) -> _Beside:
        name = self._stem + suffix
        file = self._stack.enter_context(publish(self._layout.folder / name))
        return _Beside(name, file, open_writer(file.as_binary(), dtype))

    def write(self, batch: TokenBatch) -> None:
        if (texts := self._layout.texts) is not None:
            batch = replace(batch, texts=texts(batch))
        self._writer.write(batch)
        if self._index is not None:
            self._index.writer.write(batch.lengths)
        for name, column in self._columns.items():
            column.writer.write(batch.columns[name])
        if len(batch.tokens):
            low, high = int(batch.tokens.min()), int(batch.tokens.max())
            self._low = low if self._low is None else min(low, self._low)
            self._high = high if self._high is None else max(high, self._high)
        self.documents += len(batch)
        self.tokens += len(batch.tokens)

    def publish(self) -> Shard:
        self._writer.close()
        file = self._file.info(self._name)
        offsets = None if self._index is None else _finish(self._index)
        columns = {name: _finish(column) for name, column in self._columns.items()}
        self._stack.close()
        return Shard(
            file=file,
            documents=self.documents,
            tokens=self.tokens,
            min_id=self._low,
            max_id=self._high,
            offsets=offsets,
            columns=columns,
        )

    def abandon(self, error: BaseException) -> None:
        self._stack.__exit__(type(error), error, error.__traceback__)


def _finish(beside: _Beside) -> FileInfo:
    beside.writer.close()
    return beside.file.info(beside.name)


class SplitWriter:
    """Cuts the documents of one split into shards."""

    def __init__(self, layout: ShardLayout, split: str) -> None:
        self.layout = layout
        self.split = split
        self.shards: list[Shard] = []
        self.digest = LogicalDigest(layout.vocab_size, layout.columns)
        self.documents = self.tokens = self.text_bytes = 0
        self.group = 0
        self.open: _OpenShard | None = None

    def write(self, batch: TokenBatch) -> Iterator[tuple[Shard, int]]:
        """Append whole documents, ending shards where the limit says.

        Yields each shard as it is published, with the number of this batch's documents written by then.
        """
        done = 0
        while len(batch):
            count = len(batch)
            if (room := self._room()) is not None:
                count = int(np.searchsorted(batch.offsets, room, side="right")) - 1
                if count == 0 and (shard := self.publish()) is not None:
                    yield shard, done
                    continue
                count = max(count, 1)  # a document larger than a shard has one of its own
            self._append(documents(batch, 0, count))
            batch = documents(batch, count, len(batch))
            done += count

    def _room(self) -> int | None:
        """Tokens that still fit into the open shard; None: any number."""
        if self.layout.shard_bytes is None:
            return None
        used = self.open.tokens if self.open is not None else 0
        return self.layout.shard_bytes // self.layout.dtype.itemsize - used

    def _append(self, batch: TokenBatch) -> None:
        if self.open is None:
            self.open = _OpenShard(self.layout, self.layout.name(self.split, len(self.shards)))
        self.open.write(batch)
        self.count(batch)

    def count(self, batch: TokenBatch) -> None:
        """Take documents into account that are in a published shard already."""
        self.digest.update(batch)
        self.documents += len(batch)
        self.tokens += len(batch.tokens)

    def publish(self) -> Shard | None:
        """End the open shard, if there is one."""
        if self.open is None:
            return None
        shard = self.open.publish()
        self.open = None
        self.shards.append(shard)
        return shard

    def summary(self) -> Split:
        """Describe the split as the manifest does."""
        return Split(
            documents=self.documents,
            tokens=self.tokens,
            text_bytes=self.text_bytes,
            digest=self.digest.hexdigest(),
            shards=self.shards,
        )

    def abandon(self, error: BaseException) -> None:
        """Leave no half-written shard behind."""
        if self.open is not None:
            self.open.abandon(error)


def documents(batch: TokenBatch, first: int, last: int) -> TokenBatch:
    """Return documents [first, last) of a batch, as views."""
    if (first, last) == (0, len(batch)):
        return batch
    start, stop = int(batch.offsets[first]), int(batch.offsets[last])
    columns = {name: values[start:stop] for name, values in batch.columns.items()}
    return TokenBatch(batch.tokens[start:stop], batch.offsets[first : last + 1] - start, columns)
