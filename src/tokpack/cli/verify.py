"""`tokpack verify`: prove that a dataset is what its manifest says."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from tokpack.cli.console import format_bytes, format_count, format_seconds, print_json, stderr
from tokpack.dataset.store import open_dataset
from tokpack.dataset.verify import Report, verify_dataset
from tokpack.encoding.sample import verify_sample
from tokpack.errors import UsageError

__all__ = ["verify"]


def verify(
    dataset: Annotated[Path, typer.Argument(help="Folder of the dataset.")] = Path("tokenized"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Names, sizes and counts only; reads no tokens.")
    ] = False,
    expect: Annotated[
        str | None,
        typer.Option(
            metavar="ROOT_DIGEST",
            help="The root digest this dataset must have, noted elsewhere. Without it, a dataset forged as a "
            "whole, manifest included, passes.",
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(help="Read so many documents again from --source and tokenize them again."),
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help="Folder of the inputs that were encoded (with --sample).")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Hashing threads. Default: one per core.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check every file of a dataset: names, sizes, SHA-256, document boundaries, id range, counts, tokenizer.

    All problems are listed. Exit code: 0 good, 1 damaged, 3 incomplete, 4 could not read, 5 mismatch.
    """
    if (sample is None) != (source is None) and sample is not None:
        raise UsageError("--sample needs --source, the folder of the inputs that were encoded")
    begun = time.monotonic()
    report = _run(dataset, quick=quick, expect=expect, threads=threads, silent=as_json)
    documents = sum(split.documents for split in report.manifest.splits.values())
    compared = 0
    if source is not None and report.exit_code == 0:
        compared = min(sample or 16, documents)
        findings = verify_sample(open_dataset(dataset), source, compared)
        report = dataclasses.replace(report, findings=tuple(findings))
    if as_json:
        print_json(
            {
                "exit_code": report.exit_code,
                "root_digest": report.manifest.root_digest,
                "findings": [dataclasses.asdict(finding) for finding in report.findings],
                "notes": list(report.notes),
                "documents_compared": compared,
            }
        )
    else:
        _print(dataset, report, time.monotonic() - begun, quick=quick)
        if compared and not report.findings:
            typer.echo(f"{format_count(compared)} documents encoded again from {source}: equal")
    raise typer.Exit(report.exit_code)


def _run(dataset: Path, *, quick: bool, expect: str | None, threads: int | None, silent: bool) -> Report:
    console = stderr()
    if silent or quick or not console.is_terminal:
        return verify_dataset(dataset, quick=quick, expect=expect, threads=threads)
    columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("verify", total=None)
        return verify_dataset(
            dataset,
            expect=expect,
            threads=threads,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _print(dataset: Path, report: Report, seconds: float, *, quick: bool) -> None:
    for note in report.notes:
        typer.echo(f"note: {note}")
    if report.findings:
        for finding in report.findings:
            typer.echo(f"{finding.kind}: {finding.path}: {finding.message}")
        number = len(report.findings)
        typer.echo(f"{dataset}: {number} problem{'s' * (number != 1)}; restore these files, or encode again")
        return
    manifest = report.manifest
    documents = sum(split.documents for split in manifest.splits.values())
    tokens = sum(split.tokens for split in manifest.splits.values())
    how = (
        "names, sizes and counts are right (tokens were not read)"
        if quick
        else f"{format_bytes(report.bytes_hashed)} hashed in {format_seconds(seconds)}, all as it must be"
    )
    typer.echo(f"{dataset}: {format_count(documents)} documents, {format_count(tokens)} tokens; {how}")
    typer.echo(f"root digest {manifest.root_digest}")
