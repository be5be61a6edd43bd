"""From a stored document back to the input it came from.

``units.jsonl`` keeps, for each unit of work, the slices that were read and how many documents each split got
from it. The exact position is found by encoding that one unit again, which also proves its tokens.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import msgspec
import numpy as np

from tokpack.dataset.store import Dataset
from tokpack.dtypes import DTYPES, TokenArray
from tokpack.encoding.describe import UNITS_NAME
from tokpack.encoding.job import open_chat, template_of
from tokpack.encoding.options import Recorded
from tokpack.encoding.unit import UnitWork, encode_documents, held_out_documents
from tokpack.errors import DamagedError, StorageError
from tokpack.plugins import Plugins, discover
from tokpack.protocols import Slice
from tokpack.sources.inputs import VALIDATION
from tokpack.specs import load

__all__ = ["Origin", "Provenance", "StoredDocument", "UnitLine"]


@dataclass(frozen=True, slots=True)
class UnitLine:
    """One line of ``units.jsonl``: slices as (source, start, stop), and (documents, tokens) per split."""

    parts: list[tuple[int, int, int]]
    splits: dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a document came from: its unit, its number among that unit's documents of the split, and the
    names of the inputs that the unit read with the range read of each."""

    unit: int
    number: int
    inputs: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as encoding its source again stores it; ``position`` is in bytes or rows of ``source``."""

    split: str
    tokens: TokenArray
    source: str
    position: int


class Provenance:
    """Looks up origins in one dataset, and encodes units again."""

    def __init__(self, dataset: Dataset, *, plugins: Plugins | None = None) -> None:
        self._dataset = dataset
        self._plugins = plugins or discover()

    @cached_property
    def units(self) -> Sequence[UnitLine]:
        """All units in order. Raises DamagedError, StorageError."""
        info = next((item for item in self._dataset.manifest.extra if item.name == UNITS_NAME), None)
        if info is None:
            raise StorageError(f"{self._dataset.path} keeps no {UNITS_NAME}; it was made by another tool")
        path = self._dataset.check_file(info)
        try:
            return msgspec.json.Decoder(UnitLine).decode_lines(path.read_bytes())
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise DamagedError(f"{path} is damaged: {error}; restore it from a copy") from error

    def origin(self, split: str, document: int) -> Origin:
        """Return where document ``document`` of ``split`` came from, without reading any input."""
        counts = [unit.splits.get(split, (0, 0))[0] for unit in self.units]
        starts = [0, *accumulate(counts)]
        unit = bisect_right(starts, document) - 1
        names = [source.name for source in self._dataset.manifest.sources]
        inputs = tuple((names[source], start, stop) for source, start, stop in self.units[unit].parts)
        return Origin(unit, document - starts[unit], inputs)

    def encode_again(self, unit: int, folder: Path) -> Iterator[StoredDocument]:
        """Read the unit's slices from ``folder`` and yield its documents as they are stored, in order.

        Raises:
            StorageError: an input is not there.
        """
        sources = self._dataset.manifest.sources
        work = self._work
        for index, start, stop in self.units[unit].parts:
            source = sources[index]
            path = folder / source.name
            if not path.is_file():
                raise StorageError(f"{path} is not there; --source names the folder that encode read from")
            part = Slice(str(path), start, stop, start, stop)
            for batch in work.sources[source.kind].read(part):
                encoded = encode_documents(batch, str(path), work)
                fraction = work.options.val_fraction if source.split == "train" else 0.0
                held_out = (
                    held_out_documents(encoded.texts, fraction)
                    if fraction
                    else np.zeros(len(encoded.texts), np.bool_)
                )
                texts = np.repeat(np.arange(len(encoded.texts)), encoded.stored).tolist()
                for number, text in enumerate(texts):
                    split = VALIDATION if held_out[text] else source.split
                    yield StoredDocument(
                        split, encoded.tokens[number], source.name, int(encoded.positions[text])
                    )

    @cached_property
    def _work(self) -> UnitWork:
        manifest = self._dataset.manifest
        recorded = msgspec.convert(manifest.options, Recorded)
        tokenizer = self._dataset.open_tokenizer()
        options, renderer = open_chat(recorded.options(manifest.tokenizer.reference), tokenizer)
        kinds = {source.kind for source in manifest.sources}
        return UnitWork(
            folder=self._dataset.path,  # only whole units write, and none runs here
            tokenizer=tokenizer,
            sources={kind: load(self._plugins.sources[kind].open)(options.source) for kind in kinds},
            names=tuple(source.name for source in manifest.sources),
            options=options,
            dtype=DTYPES[manifest.dtype],
            bos_id=manifest.tokenizer.bos_id if recorded.bos else None,
            eos_id=manifest.tokenizer.eos_id if recorded.eos else None,
            template=template_of(options, tokenizer),
            renderer=renderer,
        )
