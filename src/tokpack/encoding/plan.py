"""From inputs to units of work: a pure function of inputs and options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tokpack.encoding.options import EncodeOptions
from tokpack.errors import UsageError
from tokpack.protocols import Slice, Source
from tokpack.sources.inputs import InputFile

__all__ = ["Part", "Plan", "Unit", "make_plan"]


@dataclass(frozen=True, slots=True)
class Part:
    """One slice of one input; ``source`` is the input's index in the plan."""

    source: int
    kind: str
    slice: Slice

    @property
    def size_bytes(self) -> int:
        """Bytes of input accounted to this part."""
        return self.slice.byte_stop - self.slice.byte_start


@dataclass(frozen=True, slots=True)
class Unit:
    """What one worker does at a time: slices that follow each other, all of one split.

    ``shard`` counts the shards asked for by number; units of one shard follow each other.
    """

    index: int
    split: str
    parts: tuple[Part, ...]
    shard: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of input in this unit."""
        return sum(part.size_bytes for part in self.parts)


@dataclass(frozen=True, slots=True)
class Plan:
    """All inputs, how their documents are found, and the units in order."""

    inputs: tuple[InputFile, ...]
    descriptions: tuple[str, ...]
    units: tuple[Unit, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all inputs."""
        return sum(item.size_bytes for item in self.inputs)


def make_plan(inputs: Sequence[InputFile], sources: Mapping[str, Source], options: EncodeOptions) -> Plan:
    """Cut ``inputs`` into units of about ``options.unit_bytes``.

    Raises:
        UsageError: the inputs cannot be cut into as many shards as were asked for.
    """
    unit_bytes = _unit_bytes(inputs, options)
    units: list[Unit] = []
    descriptions = []
    for split in dict.fromkeys(item.split for item in inputs):
        parts = []
        for index, item in enumerate(inputs):
            if item.split == split:
                source = sources[item.kind]
                descriptions.append((index, source.describe(item.path)))
                cut = source.plan(item.path, slice_bytes=unit_bytes)
                parts += [Part(index, item.kind, piece) for piece in cut]
        grouped = list(_group(parts, unit_bytes))
        shards = _shard_numbers(grouped, options.num_shards, split)
        units += [
            Unit(len(units) + number, split, tuple(group), shard)
            for number, (group, shard) in enumerate(zip(grouped, shards, strict=True))
        ]
    ordered = tuple(text for _, text in sorted(descriptions))
    return Plan(tuple(inputs), ordered, tuple(units))


def _unit_bytes(inputs: Sequence[InputFile], options: EncodeOptions) -> int:
    if options.num_shards is None:
        return options.unit_bytes
    smallest = min(
        sum(item.size_bytes for item in inputs if item.split == split)
        for split in {item.split for item in inputs}
    )
    # Four units a shard or more keep the shards alike in size.
    return max(1, min(options.unit_bytes, smallest // (4 * options.num_shards)))


def _group(parts: Sequence[Part], unit_bytes: int) -> Iterator[list[Part]]:
    """Put small slices together until they make a unit."""
    group: list[Part] = []
    size = 0
    for part in parts:
        if group and size + part.size_bytes > unit_bytes:
            yield group
            group, size = [], 0
        group.append(part)
        size += part.size_bytes
    if group:
        yield group


def _shard_numbers(groups: Sequence[Sequence[Part]], num_shards: int | None, split: str) -> list[int]:
    """Deal consecutive units to ``num_shards`` shards of about equal input size, none of them empty."""
    if num_shards is None:
        return [0] * len(groups)
    if len(groups) < num_shards:
        raise UsageError(
            f"--num-shards is {num_shards}, but the {split} inputs can only be cut into {len(groups)}; "
            "compressed files are not cut: ask for fewer shards, or use --shard-bytes"
        )
    sizes = [sum(part.size_bytes for part in group) for group in groups]
    total, done, shard, numbers = max(1, sum(sizes)), 0, 0, []
    for index, size in enumerate(sizes):
        remaining = len(sizes) - index
        due = min(num_shards - 1, done * num_shards // total)
        # Never so slow that the last shards stay empty, never skipping one.
        shard = max(min(due, shard + 1), num_shards - remaining, shard) if index else 0
        numbers.append(shard)
        done += size
    return numbers
