"""Metrics as files of the run folder: ``metrics.jsonl``, ``metrics.csv`` and ``samples.txt``.

A run that resumes from step n first drops what a killed process wrote after step n, so that a file reads as
if the run had never stopped.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path

from tokpack.protocols import RunInfo

__all__ = ["COLUMNS", "CsvTracker", "JsonlTracker", "read_metrics"]

#: Columns of the CSV file, in order; the JSON lines hold every metric.
COLUMNS = (
    "step",
    "loss",
    "lr",
    "grad_norm",
    "tokens",
    "epoch",
    "tokens_per_s",
    "mfu",
    "data_wait",
    "memory_gb",
    "time_s",
    "validation_loss",
    "perplexity",
    "bits_per_byte",
)


class JsonlTracker:
    """One JSON object per log call, and one per text, in ``metrics.jsonl``."""

    def __init__(self, run: RunInfo) -> None:
        path = run.directory / "metrics.jsonl"
        kept = [line for line in _lines(path) if _step_of(line) <= run.step]
        path.write_text("".join(kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append the numbers; one that is not finite becomes null."""
        self._write({"step": step} | {k: v if math.isfinite(v) else None for k, v in metrics.items()})

    def text(self, step: int, kind: str, text: str) -> None:
        """Append the words."""
        self._write({"step": step, kind: text})

    def _write(self, record: Mapping[str, object]) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class CsvTracker:
    """One row per log call in ``metrics.csv``; samples go to ``samples.txt``."""

    def __init__(self, run: RunInfo) -> None:
        path = run.directory / "metrics.csv"
        kept = [line for line in _lines(path)[1:] if _csv_step(line) <= run.step]
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write(",".join(COLUMNS) + "\n" + "".join(kept))
        self._file = path.open("a", encoding="utf-8", newline="")
        self._rows = csv.DictWriter(
            self._file, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n"
        )
        self._samples = run.directory / "samples.txt"

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one row."""
        self._rows.writerow({"step": step, **metrics})
        self._file.flush()

    def text(self, step: int, kind: str, text: str) -> None:
        """Append a sample."""
        if kind == "sample":
            with self._samples.open("a", encoding="utf-8") as file:
                file.write(f"--- step {step}\n{text}\n\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]  # a last line cut by a kill is dropped


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _csv_step(line: str) -> float:
    first = line.partition(",")[0]
    return float(first) if first.isdecimal() else math.inf


def read_metrics(run: Path) -> list[dict[str, float]]:
    """Read the numbers of ``metrics.jsonl``, skipping what is no complete line of numbers."""
    records = []
    for line in _lines(run / "metrics.jsonl"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        records.append({k: float(v) for k, v in record.items() if isinstance(v, int | float)})
    return records
