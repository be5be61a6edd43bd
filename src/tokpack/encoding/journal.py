"""The journal of an encode: one line per event, each with a CRC, so that a torn end is seen and dropped."""

from __future__ import annotations

import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tokpack.dataset.manifest import Shard
from tokpack.dataset.publish import storage_error
from tokpack.encoding.unit import UnitRecord

__all__ = ["Journal", "ShardRecord"]

# A record lost with the power costs its unit's work again and nothing else, so not every line is synced.
_SYNC_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecord:
    """A published shard, and where the next one of its split begins: documents taken of a unit's piece."""

    split: str
    shard: Shard
    next_unit: int
    next_document: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    unit: UnitRecord | None = None
    shard: ShardRecord | None = None


class Journal:
    """Append-only records of finished units and published shards."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.units: dict[int, UnitRecord] = {}
        self.shards: list[ShardRecord] = []
        self._recover()
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise storage_error(error, path) from error
        self._synced = time.monotonic()

    def add_unit(self, record: UnitRecord) -> None:
        """Note that a unit is finished."""
        self.units[record.index] = record
        self._append(_Line(unit=record))

    def add_shard(self, record: ShardRecord) -> None:
        """Note that a shard is published; on disk when this returns, since pieces are removed after it."""
        self.shards.append(record)
        self._append(_Line(shard=record))
        self.sync()

    def restart(self) -> None:
        """Forget everything."""
        self.units.clear()
        self.shards.clear()
        self._file.truncate(0)

    def sync(self) -> None:
        """Wait until all records are on disk."""
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, line: _Line) -> None:
        payload = msgspec.json.encode(line)
        data = memoryview(b"%08x %s\n" % (zlib.crc32(payload), payload))
        try:
            while data:
                data = data[self._file.write(data) :]
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                self.sync()
        except OSError as error:
            raise storage_error(error, self._path) from error

    def _recover(self) -> None:
        """Read what is whole; cut off what a crash has torn."""
        if not self._path.exists():
            return
        good = 0
        with self._path.open("rb+") as file:
            for line in file:
                if (entry := _parse(line)) is None:
                    break
                good += len(line)
                if entry.unit is not None:
                    self.units[entry.unit.index] = entry.unit
                if entry.shard is not None:
                    self.shards.append(entry.shard)
            file.truncate(good)


def _parse(line: bytes) -> _Line | None:
    checksum, _, payload = line[:-1].partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(payload):
        return None
    try:
        return msgspec.json.decode(payload, type=_Line)
    except msgspec.MsgspecError:  # a journal of another version: its work is done again
        return None
