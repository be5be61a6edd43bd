"""Pieces of units, in order, become the shards of each split.

The parent process does this while workers encode. Where a shard ends depends on documents and options only,
so neither workers nor interruptions show in the bytes.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokpack.dataset.axis import open_columns
from tokpack.dataset.manifest import FileInfo, Shard, Split
from tokpack.dataset.shards import ShardLayout, SplitWriter, documents
from tokpack.dataset.store import shard_batches
from tokpack.encoding.journal import Journal, ShardRecord
from tokpack.encoding.pieces import read_piece
from tokpack.encoding.plan import Unit
from tokpack.encoding.unit import UnitRecord
from tokpack.protocols import FormatReader
from tokpack.specs import load

__all__ = ["Assembler"]


class Assembler:
    """Takes units in order; writes, publishes and journals shards; removes pieces no longer needed."""

    def __init__(self, layout: ShardLayout, units_folder: Path, journal: Journal) -> None:
        self._layout = layout
        self._units_folder = units_folder
        self._journal = journal
        self._splits: dict[str, SplitWriter] = {}
        self._resume_at: dict[str, tuple[int, int]] = {}
        # Units whose pieces an open shard may still need, by split.
        self._held: dict[str, list[int]] = {}
        for record in journal.shards:
            self._replay(record)

    def _writer(self, split: str) -> SplitWriter:
        return self._splits.setdefault(split, SplitWriter(self._layout, split))

    def _replay(self, record: ShardRecord) -> None:
        """Take a shard published before an interruption into account: read it, write nothing."""
        writer = self._writer(record.split)
        shard, layout = record.shard, self._layout

        def locate(info: FileInfo) -> Path:
            return layout.folder / info.name

        reader: FormatReader = load(layout.format.reader)(locate(shard.file), layout.dtype)
        offsets: NDArray[np.int64] = (
            reader.offsets  # type: ignore[attr-defined]
            if shard.offsets is None
            else load(layout.format.index_reader)(locate(shard.offsets), layout.dtype)
        )
        columns = open_columns(reader, shard, layout.columns, locate)
        for batch in shard_batches(reader, offsets, columns):
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
                if (shard := writer.publish()) is not None:
                    self._note(writer, shard, unit.index, skip)
            document = 0
            for batch in read_piece(folder, split, info, self._layout.dtype):
                fresh = documents(batch, min(max(0, skip - document), len(batch)), len(batch))
                taken = document + len(batch) - len(fresh)
                document += len(batch)
                for shard, written in writer.write(fresh):
                    self._note(writer, shard, unit.index, taken + written)

    def _note(self, writer: SplitWriter, shard: Shard, unit: int, document: int) -> None:
        """Journal a published shard, and remove the pieces that nothing needs any more."""
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
        with ExitStack() as all_of_them:  # one that fails must not keep the others' files open
            for writer in self._splits.values():
                all_of_them.callback(writer.abandon, error)
