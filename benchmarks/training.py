"""What the two training benchmarks share: data, the bare step, and a tracker by which all take turns."""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time

import numpy as np
import torch

from tokpack.encoding.options import EncodeOptions
from tokpack.encoding.run import encode_job
from tokpack.plugins import discover
from tokpack.protocols import SourceOptions
from tokpack.train.config import Settings
from tokpack.train.layers import expand, layered, merge
from tokpack.train.loop import train
from tokpack.train.objective import make_loss, parallelise
from tokpack.train.opening import open_run
from tokpack.train.optim import Optimizers, clip_gradients
from tokpack.train.presets import preset_values
from tokpack.train.runs import Run
from tokpack.train.signals import StopRequest

Side = Callable[[], None]


def make_dataset(folder: Path, megabytes: int) -> Path:
    """Encode random words as bytes; what is in a text matters to no side."""
    words = "a king said no man shall pass this gate before night falls again"
    chance = np.random.default_rng(0)
    chosen = chance.choice(words.split(), size=megabytes * 200_000)
    cuts = np.cumsum(chance.integers(20, 300, size=len(chosen) // 150))
    documents = [" ".join(part) for part in np.split(chosen, cuts[cuts < len(chosen)])]
    text = "\n".join(documents)
    (folder / "text.txt").write_text(text)
    options = EncodeOptions(tokenizer="byte", val_fraction=0.02, source=SourceOptions(split="lines"))
    encode_job([str(folder / "text.txt")], options, output=folder / "tokenized")
    return folder / "tokenized"


def settings_for(preset: str, *assignments: str) -> Settings:
    layers = [preset_values(preset)] if preset else []
    return layered([*layers, merge(expand(assignments))])


class BareStep:
    """The compiled step alone, on one batch that never changes: the ceiling of the loop."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.model = copy.deepcopy(run.model)
        settings = run.settings
        self.batch = next(run.loader)
        run.loader.seek(0)
        tokens = self.batch.input_ids.numel()
        device = run.compute.device
        self.loss = make_loss(self.model, settings.model, settings.train, tokens=tokens, device=device)
        self.module = parallelise(self.loss, run.compute, settings.train, compiled=run.facts["compiled"])
        self.optimizers = Optimizers(self.model, settings.optim, fused=True)
        self.arguments = self.loss.of(self.batch, run.plan(self.batch))

    def steps(self, count: int) -> None:
        for _ in range(count):
            with self.run.compute.autocast():
                loss = self.module(*self.arguments) * (1.0 / self.batch.labels.numel())
            loss.backward()
            norm = clip_gradients(self.optimizers.parameters, 1.0)
            self.optimizers.step(torch.isfinite(norm))
            self.optimizers.zero_grad()


class Turns:
    """A tracker that times the loop between two reports, then gives every other side as many steps."""

    def __init__(self, sides: Mapping[str, Side], *, device: torch.device, skip: int = 2) -> None:
        self.sides, self.device, self.skip = sides, device, skip
        self.wall: dict[str, list[float]] = {name: [] for name in ("loop", *sides)}
        self.cpu: dict[str, list[float]] = {name: [] for name in ("loop", *sides)}
        self.waits: list[float] = []
        self._since: tuple[float, float] | None = None

    def _clock(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return perf_counter(), thread_time()  # torch's backward pass on a CPU runs in the calling thread

    def _note(self, name: str, since: tuple[float, float]) -> None:
        now = self._clock()
        self.wall[name].append(now[0] - since[0])
        self.cpu[name].append(now[1] - since[1])

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if "data_wait" not in metrics:
            return
        if self._since is not None:
            self._note("loop", self._since)
            self.waits.append(metrics["data_wait"])
        for name, side in self.sides.items():
            begin = self._clock()
            side()
            self._note(name, begin)
        self._since = self._clock()

    def text(self, step: int, kind: str, text: str) -> None:
        """Nothing to time."""

    def close(self) -> None:
        """Nothing to close."""

    def seconds(self, name: str, *, cpu: bool = False) -> float:
        """Median of one turn, the first ones left out."""
        return median((self.cpu if cpu else self.wall)[name][self.skip :])

    def ratio(self, name: str, *, cpu: bool = False) -> float:
        """Median over rounds of this side's time divided by the loop's in the same round."""
        times = self.cpu if cpu else self.wall
        pairs = list(zip(times[name], times["loop"], strict=False))[self.skip :]
        return median(side / loop for side, loop in pairs)


def take_turns(run: Run, sides: Mapping[str, Side]) -> Turns:
    """Train to the end with all usual trackers, the other sides taking their turns between reports."""
    turns = Turns(sides, device=run.compute.device)
    with StopRequest() as stop:
        try:
            train(run, stop, also=(turns,))
        finally:
            run.close()
    return turns


def machine() -> dict[str, str]:
    return {
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
    }


def open_for(settings: Settings) -> Run:
    return open_run(settings, discover())
