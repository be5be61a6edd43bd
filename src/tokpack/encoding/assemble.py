"""Pieces of units, in order, become the shards of each split.

The parent process does this while workers encode. Where a shard ends depends on documents and options only,
so neither workers nor interruptions show in the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import TokenBatch
from tokpack.dataset.digest import LogicalDigest
from tokpack.dataset.manifest import FileInfo, Shard, Split
from tokpack.dataset.publish import HashingFile, publish
from tokpack.dataset.store import shard_batches
from tokpack.encoding.journal import Journal, ShardRecord
from tokpack.encoding.pieces import read_piece
from tokpack.encoding.plan import Unit
from tokpack.encoding.unit import UnitRecord
from tokpack.protocols import FormatReader, FormatWriter, IndexWriter
from tokpack.specs import FormatSpec, load

__all__ = ["Assembler", "ShardLayout"]


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

    def name(self, split: str, index: int) -> str:
        """Return the file name of shard ``index``."""
        return f"{split}-{index:05d}{self.format.suffix}" if self.numbered else f"{split}{self.format.suffix}"


class _OpenShard:
    """One shard while it is written."""

    def __init__(self, layout: ShardLayout, name: str) -> None:
        self._layout = layout
        self._name = name
        self.documents = self.tokens = 0
        self._low: int | None = None
        self._high: int | None = None
        # Files are published when the stack closes well, and removed when it closes on an error.
        self._stack = ExitStack()
        self._file = self._stack.enter_context(publish(layout.folder / name))
        self._writer: FormatWriter = load(layout.format.writer)(
            self._file.as_binary(), layout.dtype, layout.columns, layout.options
        )
        self._index: IndexWriter | None = None
        self._index_file: HashingFile | None = None
        if not layout.format.holds_documents:
            self._index_name = name.removesuffix(layout.format.suffix) + layout.format.index_suffix
            self._index_file = self._stack.enter_context(publish(layout.folder / self._index_name))
            self._index = load(layout.format.index_writer)(self._index_file.as_binary(), layout.dtype)

    def write(self, batch: TokenBatch) -> None:
        self._writer.write(batch)
        if self._index is not None:
            self._index.write(batch.lengths)
        if len(batch.tokens):
            low, high = int(batch.tokens.min()), int(batch.tokens.max())
            self._low = low if self._low is None else min(low, self._low)
            self._high = high if self._high is None else max(high, self._high)
        self.documents += len(batch)
        self.tokens += len(batch.tokens)

    def publish(self) -> Shard:
        self._writer.close()
        offsets: FileInfo | None = None
        if self._index is not None and self._index_file is not None:
            self._index.close()
            offsets = self._index_file.info(self._index_name)
        file = self._file.info(self._name)
        self._stack.close()
        return Shard(
            file=file,
            documents=self.documents,
            tokens=self.tokens,
            min_id=self._low,
            max_id=self._high,
            offsets=offsets,
        )

    def abandon(self, error: BaseException) -> None:
        self._stack.__exit__(type(error), error, error.__traceback__)


class _SplitWriter:
    """Cuts the documents of one split into shards."""

    def __init__(self, layout: ShardLayout, split: str) -> None:
        self.layout = layout
        self.split = split
        self.shards: list[Shard] = []
        self.digest = LogicalDigest(layout.vocab_size, layout.columns)
        self.documents = self.tokens = self.text_bytes = 0
        self.group = 0
        self.open: _OpenShard | None = None

    def room(self) -> int | None:
        """Tokens that still fit into the open shard; None: any number."""
        if self.layout.shard_bytes is None:
            return None
        used = self.open.tokens if self.open is not None else 0
        return self.layout.shard_bytes // self.layout.dtype.itemsize - used

    def write(self, batch: TokenBatch) -> None:
        if self.open is None:
            self.open = _OpenShard(self.layout, self.layout.name(self.split, len(self.shards)))
        self.open.write(batch)
        self.count(batch)

    def count(self, batch: TokenBatch) -> None:
        self.digest.update(batch)
        self.documents += len(batch)
        self.tokens += len(batch.tokens)

    def publish(self) -> Shard | None:
        if self.open is None:
            return None
        shard = self.open.publish()
        self.open = None
        self.shards.append(shard)
        return shard

    def summary(self) -> Split:
        return Split(
            documents=self.documents,
            tokens=self.tokens,
            text_bytes=self.text_bytes,
            digest=self.digest.hexdigest(),
            shards=self.shards,
        )


class Assembler:
    """Takes units in order; writes, publishes and journals shards; removes pieces no longer needed."""

    def __init__(self, layout: ShardLayout, units_folder: Path, journal: Journal) -> None:
        self._layout = layout
        self._units_folder = units_folder
        self._journal = journal
        self._splits: dict[str, _SplitWriter] = {}
        self._resume_at: dict[str, tuple[int, int]] = {}
        # Units whose pieces an open shard may still need, by split.
        self._held: dict[str, list[int]] = {}
        for record in journal.shards:
            self._replay(record)

    def _writer(self, split: str) -> _SplitWriter:
        return self._splits.setdefault(split, _SplitWriter(self._layout, split))

    def _replay(self, record: ShardRecord) -> None:
        """Take a shard published before an interruption into account: read it, write nothing."""
        writer = self._writer(record.split)
        reader: FormatReader = load(self._layout.format.reader)(
            self._layout.folder / record.shard.file.name, self._layout.dtype
        )
        offsets: NDArray[np.int64] = (
            reader.offsets  # type: ignore[attr-defined]
            if record.shard.offsets is None
            else load(self._layout.format.index_reader)(
                self._layout.folder / record.shard.offsets.name, self._layout.dtype
            )
        )
        for batch in shard_batches(reader, offsets, self._layout.columns):
            writer.count(batch)
        writer.shards.append(record.shard)
        self._resume_at[record.split] = (record.next_unit, record.next_document)

    def add(self, unit: Unit, record: UnitRecord) -> None:
        """Append the pieces of the next unit in order."""
        folder = self._units_folder / f"{unit.index:06d}"
        for split, info in record.pieces.items():
            writer = self._writer(split)
            writer.text_bytes += info.text_bytes
            start_unit, start_document = self._resume_at.get(split, (0, 0))
            if unit.index < start_unit:
                continue
            self._held.setdefault(split, []).append(unit.index)
            skip = start_document if unit.index == start_unit else 0
            if unit.shard > writer.group:
                writer.group = unit.shard
                self._publish(writer, unit.index, skip)
            document = 0
            for batch in read_piece(folder, split, info, self._layout.dtype):
                fresh = _from_document(batch, max(0, skip - document))
                taken = document + len(batch) - len(fresh)
                document += len(batch)
                if len(fresh):
                    self._write(writer, fresh, unit.index, taken)

    def _write(self, writer: _SplitWriter, batch: TokenBatch, unit: int, document: int) -> None:
        """Write whole documents, ending shards where the limit says."""
        while len(batch):
            count = len(batch)
            if (room := writer.room()) is not None:
                count = int(np.searchsorted(batch.offsets, room, side="right")) - 1
                if count == 0 and writer.open is not None:
                    self._publish(writer, unit, document)
                    continue
                count = max(count, 1)  # a document larger than a shard has one of its own
            writer.write(_documents(batch, 0, count))
            batch = _from_document(batch, count)
            document += count

    def _publish(self, writer: _SplitWriter, unit: int, document: int) -> None:
        shard = writer.publish()
        if shard is None:
            return
        record = ShardRecord(split=writer.split, shard=shard, next_unit=unit, next_document=document)
        self._journal.add_shard(record)
        for index in self._held.pop(writer.split, []):
            if index < unit:
                for path in (self._units_folder / f"{index:06d}").glob(f"{writer.split}.*"):
                    path.unlink()
            else:
                self._held.setdefault(writer.split, []).append(index)

    def finish(self) -> dict[str, Split]:
        """Publish the last shards and describe every split."""
        for writer in self._splits.values():
            writer.publish()
        return {name: writer.summary() for name, writer in sorted(self._splits.items())}

    def abandon(self, error: BaseException) -> None:
        """Leave nothing half written behind; published shards and pieces stay for the next run."""
        for writer in self._splits.values():
            if writer.open is not None:
                writer.open.abandon(error)


def _documents(batch: TokenBatch, first: int, last: int) -> TokenBatch:
    start, stop = int(batch.offsets[first]), int(batch.offsets[last])
    columns = {name: values[start:stop] for name, values in batch.columns.items()}
    return TokenBatch(batch.tokens[start:stop], batch.offsets[first : last + 1] - start, columns)


def _from_document(batch: TokenBatch, first: int) -> TokenBatch:
    return batch if first == 0 else _documents(batch, min(first, len(batch)), len(batch))
