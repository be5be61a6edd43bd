"""What `tokpack encode` shows a person: progress, the result, or the plan of a dry run."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tokpack.cli.console import (
    format_bytes,
    format_count,
    format_seconds,
    ledger_line,
    print_json,
    print_table,
    stderr,
    table,
)
from tokpack.encoding.estimate import estimate
from tokpack.encoding.job import Job
from tokpack.encoding.run import Encoded
from tokpack.encoding.run import Progress as Done

__all__ = ["EncodeReport", "show_estimate", "show_result", "summary"]


class EncodeReport:
    """Progress for people: a bar on a terminal, a line now and then elsewhere, nothing when quiet."""

    _LINE_SECONDS = 10.0

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = stderr()
        self._begun = self._last = time.monotonic()
        self._bar: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> EncodeReport:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def plan(self, job: Job, resumes: bool) -> None:
        """Say what is about to be done, and begin the bar."""
        self._begun = self._last = time.monotonic()
        if self._quiet:
            return
        inputs, how = job.plan.inputs, dict.fromkeys(job.plan.descriptions)
        self._console.print(
            f"{'continuing: ' if resumes else ''}{len(inputs)} input{'s' * (len(inputs) != 1)}, "
            f"{format_bytes(job.plan.size_bytes)}, {'; '.join(list(how)[:3])}; "
            f"{job.options.tokenizer} ({format_count(job.tokenizer.vocab_size)} ids, {job.tokenizer.engine}) "
            f"→ {job.format.name} {job.dtype.name}"
        )
        if self._console.is_terminal:
            # No refresh thread: workers are forked while this process has one thread only.
            self._bar = Progress(
                TextColumn("encoding"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=self._console,
                auto_refresh=False,
            )
            self._task = self._bar.add_task("encode", total=None, rate="")
            self._bar.start()

    def progress(self, done: Done) -> None:
        """Show how far it is."""
        if self._quiet:
            return
        seconds = max(time.monotonic() - self._begun, 1e-9)
        fresh = done.done_bytes - done.resumed_bytes
        rate = f"{fresh / seconds / 1e6:.1f} MB/s, {format_count(done.tokens)} tokens"
        if self._bar is not None:
            self._bar.update(self._task, completed=done.done_bytes, total=done.total_bytes, rate=rate)
            self._bar.refresh()
        elif time.monotonic() - self._last > self._LINE_SECONDS:
            self._last = time.monotonic()
            left = (done.total_bytes - done.done_bytes) / max(fresh / seconds, 1.0)
            self._console.print(
                f"{format_bytes(done.done_bytes)} of {format_bytes(done.total_bytes)}, {rate}, "
                f"{format_seconds(left)} left"
            )


def show_result(encoded: Encoded, output: str) -> None:
    """Print splits, ledger, speed, root digest and what to do next."""
    manifest = encoded.manifest
    rows = [
        (
            name,
            format_count(split.documents),
            format_count(split.tokens),
            str(len(split.shards)),
            format_bytes(sum(info.size_bytes for shard in split.shards for info in shard.files)),
            f"{split.text_bytes / max(split.tokens, 1):.2f}",
        )
        for name, split in manifest.splits.items()
    ]
    columns = ("split", "documents", "tokens", "shards", "size", "bytes/token")
    print_table(table("", columns, rows, right=range(1, 6)))
    typer.echo(ledger_line(manifest.ledger))
    seconds = max(encoded.seconds, 1e-9)
    tokens = sum(split.tokens for split in manifest.splits.values())
    fresh = encoded.progress.done_bytes - encoded.progress.resumed_bytes
    typer.echo(
        f"{format_seconds(seconds)}, {fresh / seconds / 1e6:.1f} MB/s, "
        f"{tokens / seconds / 1e6:.2f} M tokens/s, {manifest.tokenizer.engine}"
    )
    typer.echo(f"root digest {manifest.root_digest}")
    typer.echo(f"{output} is complete; next: tokpack verify {output}")


def summary(encoded: Encoded) -> dict[str, Any]:
    """Return the result as JSON-ready values."""
    manifest: dict[str, Any] = msgspec.to_builtins(encoded.manifest)
    return {
        "path": str(encoded.path),
        "root_digest": encoded.manifest.root_digest,
        "seconds": round(encoded.seconds, 3),
        "resumed_bytes": encoded.progress.resumed_bytes,
        "manifest": manifest,
    }


def show_estimate(job: Job, workers: int, *, as_json: bool) -> None:
    """Print the plan and what it would cost; ``workers`` share the time."""
    expected = estimate(job)
    seconds = expected.seconds / max(1, min(workers, len(job.plan.units)))
    if as_json:
        print_json(
            {
                "inputs": [
                    {"path": item.path, "split": item.split, "bytes": item.size_bytes, "documents": text}
                    for item, text in zip(job.plan.inputs, job.plan.descriptions, strict=True)
                ],
                "units": len(job.plan.units),
                "bytes": job.plan.size_bytes,
                "estimate": {
                    "documents": expected.documents,
                    "tokens": expected.tokens,
                    "disk_bytes": expected.disk_bytes,
                    "seconds": round(seconds, 1),
                },
            }
        )
        return
    rows = [
        (item.path, item.kind, item.split, format_bytes(item.size_bytes), text)
        for item, text in zip(job.plan.inputs, job.plan.descriptions, strict=True)
    ]
    shown = rows if len(rows) <= 20 else [*rows[:19], (f"… {len(rows) - 19:,} more", "", "", "", "")]
    print_table(table("", ("input", "source", "split", "size", "documents"), shown, right=[3]))
    typer.echo(
        f"inputs: {len(rows):,}, {format_bytes(job.plan.size_bytes)}; "
        f"units of work: {len(job.plan.units):,}\n"
        f"tokenizer {job.options.tokenizer}: {format_count(job.tokenizer.vocab_size)} ids, "
        f"{job.tokenizer.engine}, {job.dtype.name}\n"
        f"estimated from {format_bytes(expected.sampled_bytes)}: about {format_count(expected.documents)} "
        f"documents, {format_count(expected.tokens)} tokens, {format_bytes(expected.disk_bytes)} on disk, "
        f"{format_seconds(seconds)} with {workers} workers\nnothing was written"
    )
