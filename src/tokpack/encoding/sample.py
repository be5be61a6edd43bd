"""Checking a dataset against its sources: sampled documents, read and tokenized once more."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from tokpack.dataset.store import Dataset
from tokpack.dataset.verify import Finding
from tokpack.encoding.provenance import Provenance
from tokpack.errors import TokpackError

__all__ = ["verify_sample"]


def verify_sample(dataset: Dataset, folder: Path, count: int, *, seed: int = 0) -> list[Finding]:
    """Compare ``count`` documents, spread over all splits, with what their sources give today.

    The choice is a function of ``seed`` and of the dataset, so a second run looks at the same documents.
    """
    provenance = Provenance(dataset)
    sizes = np.array([split.documents for split in dataset.manifest.splits.values()])
    names = list(dataset.manifest.splits)
    chosen = np.random.default_rng(seed).choice(sizes.sum(), min(count, int(sizes.sum())), replace=False)
    wanted: dict[int, dict[tuple[str, int], int]] = defaultdict(dict)
    for number in np.sort(chosen).tolist():
        split = int(np.searchsorted(np.cumsum(sizes), number, side="right"))
        document = number - int(sizes[:split].sum())
        origin = provenance.origin(names[split], document)
        wanted[origin.unit][names[split], origin.number] = document
    return [
        finding
        for unit, documents in wanted.items()
        for finding in _check_unit(dataset, provenance, unit, documents, folder)
    ]


def _check_unit(
    dataset: Dataset,
    provenance: Provenance,
    unit: int,
    documents: dict[tuple[str, int], int],
    folder: Path,
) -> list[Finding]:
    findings = []
    left = dict(documents)
    numbers: dict[str, int] = defaultdict(int)
    try:
        for stored in provenance.encode_again(unit, folder):
            key = stored.split, numbers[stored.split]
            numbers[stored.split] += 1
            if (document := left.pop(key, None)) is None:
                continue
            if not np.array_equal(dataset[stored.split].document(document), stored.tokens):
                where = f"{stored.source} at {stored.position:,}"
                findings.append(
                    Finding("mismatch", stored.split, f"document {document:,} is not what {where} gives now")
                )
            if not left:
                break
    except TokpackError as error:
        return [Finding("unreadable", f"unit {unit}", str(error))]
    findings += [
        Finding("mismatch", split, f"document {document:,} is no longer in its source")
        for (split, _), document in left.items()
    ]
    return findings
