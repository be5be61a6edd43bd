"""`tokpack plot`: loss and speed of runs, in the terminal and as PNG."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from tokpack.cli.chart import Curve, draw
from tokpack.errors import UsageError
from tokpack.train.trackers.files import read_metrics

__all__ = ["plot"]

_CHARTS = (("loss", "loss"), ("validation_loss", "validation loss"), ("tokens_per_s", "tokens/s"))


def plot(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of runs. Default: all below ./runs.", show_default=False),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="PNG to write, if matplotlib is installed.")
    ] = Path("plot.png"),
    show: Annotated[bool, typer.Option("--show/--no-show", help="Draw in the terminal.")] = True,
) -> None:
    """Draw loss, validation loss and throughput over the steps.

    Example: `tokpack plot runs/* --output loss.png`
    """
    folders = runs or sorted(Path("runs").glob("*/"))
    curves = {name: _curves(folders, name) for name, _ in _CHARTS}
    if not curves["loss"]:
        raise UsageError(
            f"no metrics in {', '.join(map(str, folders)) or './runs'}; "
            "name run folders that hold metrics.jsonl"
        )
    if show:
        width = min(100, shutil.get_terminal_size().columns)
        for name, title in _CHARTS:
            if curves[name]:
                typer.echo(draw(title, curves[name], width=width))
    if find_spec("matplotlib") is None:
        typer.echo("no PNG: matplotlib is not installed (pip install matplotlib)", err=True)
        return
    _write_png(curves, output)
    typer.echo(f"{output} written", err=True)


def _curves(folders: list[Path], name: str) -> list[Curve]:
    curves = []
    for folder in folders:
        points = [(record["step"], record[name]) for record in read_metrics(folder) if name in record]
        if points:
            curves.append(Curve(folder.name, points))
    return curves


def _write_png(curves: dict[str, list[Curve]], output: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for index, curve in enumerate(curves["loss"]):
        left.plot(*zip(*curve.points, strict=True), color=f"C{index}", label=curve.name, linewidth=1)
    for curve in curves["validation_loss"]:
        index = [other.name for other in curves["loss"]].index(curve.name)
        left.plot(*zip(*curve.points, strict=True), "o--", color=f"C{index}", markersize=3)
    for index, curve in enumerate(curves["tokens_per_s"]):
        right.plot(*zip(*curve.points, strict=True), color=f"C{index}", linewidth=1)
    left.set(xlabel="step", ylabel="loss (nats per token); dashed: validation")
    right.set(xlabel="step", ylabel="tokens per second")
    left.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=150)
