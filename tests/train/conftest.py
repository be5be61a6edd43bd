"""A small dataset, made once, and runs on it that take milliseconds a step."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tokpack.encoding.options import EncodeOptions
from tokpack.encoding.run import encode_job
from tokpack.plugins import discover
from tokpack.protocols import SourceOptions
from tokpack.train.folder import RunFolder
from tokpack.train.layers import expand, layered, merge
from tokpack.train.loop import Outcome, train
from tokpack.train.opening import open_run
from tokpack.train.runs import Run
from tokpack.train.signals import StopRequest

SMALL = (
    "model.num_layers=2",
    "model.hidden_size=16",
    "model.num_heads=2",
    "data.seq_len=16",
    "data.batch_size=4",
    "train.max_iters=12",
    "train.device=cpu",
    "train.dtype=float32",  # whatever the processor can do
    "eval.every=5",
    "eval.batches=2",
    "sample.tokens=8",
    "log.every=1",
    "log.trackers=['jsonl', 'csv']",
    "log.name=run",
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads would wait for each other on a machine that others use too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand short documents of bytes, a tenth of them for validation."""
    folder = tmp_path_factory.mktemp("data")
    chance = random.Random(7)
    words = "the king said that no man shall pass this gate before night falls again"
    lines = [" ".join(chance.choices(words.split(), k=chance.randint(1, 12))) for _ in range(1000)]
    (folder / "text.txt").write_text("\n".join(lines) + "\n")
    options = EncodeOptions(tokenizer="byte", val_fraction=0.1, source=SourceOptions(split="lines"))
    encode_job([str(folder / "text.txt")], options, output=folder / "tokenized")
    return folder / "tokenized"


class StopWhen(StopRequest):
    """Asks to stop as soon as a condition holds."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        super().__init__()
        self.condition = condition

    def __bool__(self) -> bool:
        if not self.reason and self.condition():
            self.reason, self.number = "SIGTERM", 15
        return bool(self.reason)


@pytest.fixture(scope="session")
def open_small(dataset: Path) -> Callable[..., Run]:
    """``open_small("optim.lr=1", root=FOLDER)`` opens a new run, ``open_small(resume=FOLDER)`` an old one."""

    def open_it(*assignments: str, resume: Path | None = None, root: Path | None = None) -> Run:
        folder = None
        saved: dict[str, Any] = {}
        if resume is not None:
            folder = RunFolder.open(resume)
            saved = folder.values()
        places = (f"data.dataset='{dataset}'", f"log.run_dir='{root}'")
        asked = expand([*(() if saved else (*SMALL, *places)), *assignments])
        return open_run(layered([merge(saved, asked)]), discover(), resume=folder)

    return open_it


@pytest.fixture
def start(open_small: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """As ``open_small``, below ``tmp_path / "runs"`` unless said otherwise."""

    def open_it(*assignments: str, resume: Path | None = None, root: Path | None = None) -> Run:
        return open_small(*assignments, resume=resume, root=root or tmp_path / "runs")

    return open_it


@pytest.fixture(scope="session")
def run_through() -> Callable[..., Outcome]:
    """``run_through(run, at=7)`` trains to the end, or until step 7 is reached."""

    def train_it(run: Run, *, at: int | None = None) -> Outcome:
        stop = StopRequest() if at is None else StopWhen(lambda: run.progress.step >= at)
        try:
            with stop:
                return train(run, stop)
        finally:
            run.close()

    return train_it


@pytest.fixture
def finish(run_through: Callable[..., Outcome]) -> Callable[..., Outcome]:
    return run_through


@pytest.fixture(scope="session")
def records() -> Callable[[Path], list[dict[str, Any]]]:
    """Read the lines of ``metrics.jsonl`` that a run folder holds."""
    return lambda folder: [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
