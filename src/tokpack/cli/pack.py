"""`tokpack pack`: whole documents in rows, as files for other trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.bar import Bar
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from tokpack.cli.console import format_bytes, format_count, print_json, print_table, stderr
from tokpack.dataset.store import open_dataset
from tokpack.errors import UsageError
from tokpack.packed_rows.run import Comparison, PackedRows, compare_strategies, pack_dataset
from tokpack.samplers.packing import LongDocuments, PackingLedger, Strategy

__all__ = ["pack"]

_HOW = "How to pack"
_OUTPUT = "What to write"


def pack(
    dataset: Annotated[Path, typer.Argument(help="Folder of the dataset.")] = Path("tokenized"),
    seq_len: Annotated[
        int, typer.Option(help="Tokens per row.", rich_help_panel=_HOW, show_default=False)
    ] = ...,  # type: ignore[assignment]
    strategy: Annotated[
        Strategy,
        typer.Option(
            help="best-fit and first-fit put the longest documents first and waste next to nothing; pool "
            "keeps neighbours of the dataset together; greedy keeps its order.",
            rich_help_panel=_HOW,
        ),
    ] = "best-fit",
    long_documents: Annotated[
        LongDocuments,
        typer.Option(help="What happens to documents longer than a row.", rich_help_panel=_HOW),
    ] = "split",
    empty_documents: Annotated[
        Literal["error", "skip"],
        typer.Option(help="What happens to documents without a token.", rich_help_panel=_HOW),
    ] = "error",
    shuffle: Annotated[
        bool,
        typer.Option(
            help="Rows in the order of the sampler's first epoch; otherwise as planned, which for best-fit "
            "and first-fit is by length.",
            rich_help_panel=_HOW,
        ),
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of that order.", rich_help_panel=_HOW)] = 0,
    split: Annotated[str, typer.Option(help="Split to pack.", rich_help_panel=_HOW)] = "train",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="New folder for the rows.", rich_help_panel=_OUTPUT)
    ] = Path("packed"),
    format_name: Annotated[
        Literal["parquet", "arrow", "npy"],
        typer.Option("--format", "-f", help="Kind of files.", rich_help_panel=_OUTPUT),
    ] = "parquet",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the output folder.", rich_help_panel=_OUTPUT)
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Compare all strategies; write nothing.", rich_help_panel=_OUTPUT),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="With --dry-run: draw the comparison too (needs matplotlib).",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=_OUTPUT)] = False,
) -> None:
    """Pack whole documents into rows with segment ids, for other trainers.

    Columns `input_ids`, `segment_ids` (from 1; 0 is padding) and `position_ids` (from 0 in every segment).
    No token is lost silently: the ledger says where each one went. `tokpack train --sampler packed` needs
    none of this; it packs on the fly.

    Examples: `tokpack pack tokenized --seq-len 2048 --dry-run`, then without `--dry-run`
    """
    opened = open_dataset(dataset)
    skip_empty = empty_documents == "skip"
    if plot is not None and not dry_run:
        raise UsageError("--plot draws the comparison of --dry-run; add --dry-run")
    if dry_run:
        compared = compare_strategies(
            opened[split], seq_len, long_documents=long_documents, skip_empty=skip_empty
        )
        _print_comparison(compared, as_json=as_json)
        if plot is not None:
            _draw(compared, plot)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=stderr(),
        transient=True,
    ) as shown:
        tasks = {phase: shown.add_task(phase, total=None) for phase in ("write", "verify")}
        packed = pack_dataset(
            opened,
            output,
            seq_len=seq_len,
            split=split,
            strategy=strategy,
            long_documents=long_documents,
            skip_empty=skip_empty,
            shuffle=shuffle,
            seed=seed,
            format_name=format_name,
            overwrite=overwrite,
            progress=lambda phase, done, rows: shown.update(tasks[phase], completed=done, total=rows),
        )
    if as_json:
        print_json(msgspec.to_builtins(packed))
    else:
        _print_packed(packed, output)


def _print_packed(packed: PackedRows, output: Path) -> None:
    ledger = packed.ledger
    size = sum(file.size_bytes for file in packed.files)
    typer.echo(
        f"{output}: {ledger.rows:,} rows of {ledger.seq_len:,} tokens, {format_bytes(size)} in "
        f"{len(packed.files):,} files, read back and equal\n{_ledger_line(ledger)}"
    )


def _ledger_line(ledger: PackingLedger) -> str:
    long = {
        "split": ledger.documents_split,
        "truncated": ledger.documents_truncated,
        "dropped": ledger.documents_dropped,
        "empty": ledger.empty_documents,
    }
    return (
        f"{ledger.tokens:,} tokens of {ledger.documents:,} documents: {ledger.placed:,} placed "
        f"(fill {ledger.fill:.4%}), {ledger.dropped:,} dropped; {ledger.padded:,} padded; "
        + ", ".join(f"{count:,} documents {name}" for name, count in long.items() if count or name == "split")
    )


def _print_comparison(compared: list[Comparison], *, as_json: bool) -> None:
    if as_json:
        print_json([msgspec.to_builtins(entry) | {"fill": entry.ledger.fill} for entry in compared])
        return
    ledger = compared[0].ledger
    typer.echo(
        f"{ledger.documents:,} documents, {ledger.tokens:,} tokens, rows of {ledger.seq_len:,}; "
        "nothing is written\n"
    )
    most = max(1, *(entry.ledger.padded for entry in compared))
    columns = (
        "strategy",
        "rows",
        "fill",
        "padded",
        "split",
        "truncated",
        "dropped",
        "tokens dropped",
        "time",
    )
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        drawn.add_column(name, justify="left" if name == "strategy" else "right")
    drawn.add_column("padding", min_width=32)
    for entry in compared:
        ledger = entry.ledger
        counts = (
            ledger.padded,
            ledger.documents_split,
            ledger.documents_truncated,
            ledger.documents_dropped,
            ledger.dropped,
        )
        cells: list[Any] = [entry.strategy, format_count(ledger.rows), f"{ledger.fill:.4%}"]
        cells += [*map(format_count, counts), f"{entry.seconds:.3f} s", Bar(most, 0, ledger.padded, width=32)]
        drawn.add_row(*cells)
    print_table(drawn)


def _draw(compared: list[Comparison], path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("--plot needs matplotlib: pip install matplotlib, or leave --plot out") from None
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    names = [entry.strategy for entry in compared]
    shares = [100 * (1 - entry.ledger.fill) for entry in compared]
    bars = axes.barh(names, shares, color="#4477aa")
    axes.bar_label(bars, [f"{share:.3g} %" for share in shares], padding=4)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set_xlabel(f"padding, % of all places in rows of {compared[0].ledger.seq_len:,} tokens")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    stderr().print(f"drawn: {path}")
