"""What an encode would cost, from a small sample: for `--dry-run`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from tokpack.encoding.job import Job
from tokpack.encoding.plan import Part
from tokpack.encoding.unit import encode_documents
from tokpack.protocols import SourceBatch

__all__ = ["Estimate", "estimate"]

_SAMPLED_UNITS = 8
_COMPRESSED = (".gz", ".zst")


@dataclass(frozen=True, slots=True)
class Estimate:
    """An extrapolation; ``seconds`` is for one worker. ``sampled_bytes`` of text were tokenized for it."""

    documents: int
    tokens: int
    disk_bytes: int
    seconds: float
    sampled_bytes: int


def estimate(job: Job) -> Estimate:
    """Tokenize the first batch of some units spread over the input, and extrapolate."""
    parts = [part for unit in job.plan.units for part in unit.parts]
    chosen = np.unique(np.linspace(0, len(parts) - 1, _SAMPLED_UNITS).astype(int)).tolist()
    work = job.work(Path())  # only units write into the folder, and none runs here
    consumed = sampled = documents = tokens = 0
    begun = time.perf_counter()
    for index in chosen:
        part = parts[index]
        batches = iter(job.sources[part.kind].read(part.slice))
        for batch in islice(batches, 1):
            encoded = encode_documents(batch, part.slice.path, work)
            sampled += encoded.texts.nbytes
            documents += len(encoded.texts)
            tokens += len(encoded.tokens.tokens)
            consumed += _consumed(part, batch, next(batches, None))
    seconds = time.perf_counter() - begun
    scale = job.plan.size_bytes / consumed if consumed else 0.0
    offsets = 0 if job.format.holds_documents else round(8 * documents * scale)
    return Estimate(
        documents=round(documents * scale),
        tokens=round(tokens * scale),
        disk_bytes=round(tokens * scale) * job.dtype.itemsize + offsets,
        seconds=seconds * scale,
        sampled_bytes=sampled,
    )


def _consumed(part: Part, batch: SourceBatch, following: SourceBatch | None) -> int:
    """Bytes of input that ``batch``, the first of ``part``, took up."""
    if following is None:
        return part.size_bytes
    if part.slice.path.endswith(_COMPRESSED):
        # Natural language compresses to about a third; an estimate needs no more.
        return batch.texts.nbytes // 3
    if part.slice.start == part.slice.byte_start and len(following.positions):
        return int(following.positions[0]) - part.slice.start
    return batch.texts.nbytes
