"""Where training metrics go. Trackers are plugins; the files of `tokpack.train.trackers.files` come along."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tokpack.plugins import Plugins
from tokpack.protocols import RunInfo, Tracker
from tokpack.specs import load

__all__ = ["Trackers", "open_trackers"]


def open_trackers(names: Iterable[str], run: RunInfo, plugins: Plugins) -> list[Tracker]:
    """Open trackers by name.

    Raises:
        UnknownPluginError: no such tracker is installed.
    """
    specs = [plugins.trackers[name] for name in dict.fromkeys(names)]
    return [load(spec.open)(run) for spec in specs]


class Trackers:
    """Several trackers as one."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self._trackers = trackers

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand numbers of one step to all."""
        for tracker in self._trackers:
            tracker.log(step, metrics)

    def text(self, step: int, kind: str, text: str) -> None:
        """Hand words to all."""
        for tracker in self._trackers:
            tracker.text(step, kind, text)

    def close(self) -> None:
        """Close all, whatever one of them raises."""
        errors = []
        for tracker in self._trackers:
            try:
                tracker.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
