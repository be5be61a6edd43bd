"""Progress of work that goes in named phases, for people."""

from __future__ import annotations

import time

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from tokpack.cli.console import stderr

__all__ = ["PhaseProgress"]


class PhaseProgress:
    """A bar for each phase on a terminal, a line now and then elsewhere, nothing when quiet."""

    _LINE_SECONDS = 5.0

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = stderr()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> PhaseProgress:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def report(self, phase: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done; ``total`` is 0 where it is not known."""
        if self._quiet:
            return
        begins = phase not in self._tasks
        if begins:
            self._tasks[phase] = self._bars.add_task(phase, total=None)
        self._bars.update(self._tasks[phase], completed=done, total=total or None)
        now = time.monotonic()
        if not self._console.is_terminal and (begins or now - self._last_line > self._LINE_SECONDS):
            self._last_line = now
            self._console.print(f"{phase}: {done / max(1, total):.0%}" if total else phase)
