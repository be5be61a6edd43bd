"""Training as a person watches it: a table that keeps itself up to date, or a line per report."""

from __future__ import annotations

from collections.abc import Mapping

from rich.live import Live
from rich.table import Table

from tokpack.cli.console import format_seconds, stderr
from tokpack.protocols import RunInfo

__all__ = ["ConsoleTracker", "format_epochs"]


class ConsoleTracker:
    """A live table on a terminal; elsewhere one line per report. Samples and notes stand above it."""

    def __init__(self, run: RunInfo) -> None:
        self._console = stderr()
        self._run = run
        self._latest: dict[str, float] = {}
        self._begun: tuple[int, float] | None = None
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the numbers."""
        self._latest |= metrics
        if self._begun is None and "time_s" in metrics:
            self._begun = (step, metrics["time_s"])
        if self._live is not None:
            self._live.update(self._table(step), refresh=True)
        else:
            shown = ("loss", "lr", "tokens_per_s", "mfu", "data_wait", "memory_gb", *_EVALUATION)
            parts = [f"{_LABELS[name]} {_show(name, metrics[name])}" for name in shown if name in metrics]
            if epochs := format_epochs(metrics):
                parts.append(f"epoch {epochs}")
            self._console.print(f"step {step:,}/{self._run.max_iters:,}  " + "  ".join(parts))

    def text(self, step: int, kind: str, text: str) -> None:
        """Print the words above the table."""
        self._console.print(text if kind == "note" else f"sample at step {step:,}: {text!r}", markup=False)

    def close(self) -> None:
        """Leave the last state of the table on the screen."""
        if self._live is not None:
            self._live.stop()

    def _table(self, step: int) -> Table:
        drawn = Table(title=self._run.name, box=None, pad_edge=False, header_style="bold")
        cells = {"step": f"{step:,}/{self._run.max_iters:,}"}
        for name, label in _LABELS.items():
            if name in self._latest:
                cells[label] = _show(name, self._latest[name])
        if epochs := format_epochs(self._latest):
            cells["epoch"] = epochs
        cells["left"] = self._time_left(step)
        for label in cells:
            drawn.add_column(label, justify="right", no_wrap=True)
        drawn.add_row(*cells.values())
        return drawn

    def _time_left(self, step: int) -> str:
        if self._begun is None or step <= self._begun[0]:
            return "…"
        first, began = self._begun
        rate = (self._latest["time_s"] - began) / (step - first)
        return format_seconds(rate * max(0, self._run.max_iters - step))


_EVALUATION = ("validation_loss", "perplexity", "bits_per_byte")
_LABELS = {
    "loss": "loss",
    "lr": "lr",
    "tokens_per_s": "tokens/s",
    "mfu": "MFU",
    "data_wait": "data wait",
    "memory_gb": "GiB",
    "validation_loss": "val loss",
    "perplexity": "perplexity",
    "bits_per_byte": "bits/byte",
}


def format_epochs(metrics: Mapping[str, float]) -> str:
    """Show how often the data was seen: ``0.31``, or ``web 0.31, code 1.20`` where several are mixed."""
    parts = [
        f"{name.removeprefix('epoch').removeprefix('/')} {value:.2f}".lstrip()
        for name, value in metrics.items()
        if name == "epoch" or name.startswith("epoch/")
    ]
    return ", ".join(parts)


def _show(name: str, value: float) -> str:
    if name in ("mfu", "data_wait"):
        return f"{value:.1%}"
    if name == "lr":
        return f"{value:.2e}"
    return f"{value:,.0f}" if name == "tokens_per_s" else f"{value:.4f}" if "loss" in name else f"{value:.3g}"
