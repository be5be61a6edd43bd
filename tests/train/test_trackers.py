from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokpack.cli.chart import Curve, draw
from tokpack.errors import UnknownPluginError
from tokpack.protocols import RunInfo
from tokpack.train.loop import Outcome
from tokpack.train.runs import Run
from tokpack.train.trackers.files import CsvTracker, JsonlTracker, read_metrics

Start = Callable[..., Run]
Finish = Callable[..., Outcome]


def info(folder: Path, step: int = 0) -> RunInfo:
    return RunInfo("run", folder, {"optim": {"lr": 1.0}}, {"device": "cpu"}, step, 100)


def test_files_drop_what_came_after_the_step_resumed_from(tmp_path: Path) -> None:
    for kind in (JsonlTracker, CsvTracker):
        tracker = kind(info(tmp_path))
        for step in range(1, 6):
            tracker.log(step, {"loss": float(step), "lr": 0.1, "unknown": 1.0})
        tracker.text(5, "sample", "a text, with\nlines")
        tracker.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # a kill in the middle of a line
    for kind in (JsonlTracker, CsvTracker):
        tracker = kind(info(tmp_path, step=3))
        tracker.log(4, {"loss": math.nan})
        tracker.close()
    assert [record["step"] for record in read_metrics(tmp_path)] == [1, 2, 3, 4]
    assert [record.get("loss") for record in read_metrics(tmp_path)] == [1, 2, 3, None]
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["loss"] for row in rows] == ["1.0", "2.0", "3.0", "nan"]
    assert "a text, with\nlines" in (tmp_path / "samples.txt").read_text()


@pytest.mark.filterwarnings("ignore")  # of TensorBoard's own imports
def test_tensorboard(start: Start, finish: Finish) -> None:
    pytest.importorskip("tensorboard")
    run = start("log.trackers=['tensorboard']")
    finish(run)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder.path / "tensorboard"))
    events.Reload()
    assert {"loss", "lr", "validation_loss", "tokens_per_s"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 13))


@pytest.mark.filterwarnings("ignore")
def test_wandb_offline(start: Start, finish: Finish, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in [name for name in os.environ if name.startswith("WANDB_") and "KEY" in name]:
        monkeypatch.delenv(name)
    run = start("log.trackers=['wandb']", "train.max_iters=3")
    finish(run)
    files = list(run.folder.path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 1
    assert files[0].stat().st_size > 0


def test_unknown_tracker_is_named_before_a_folder_is_made(start: Start, tmp_path: Path) -> None:
    with pytest.raises(UnknownPluginError, match=r"unknown tracker 'tensorbord'.*Did you mean 'tensorboard'"):
        start("log.trackers=['tensorbord']")
    assert not (tmp_path / "runs").exists()


def test_lines_where_there_is_no_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from tokpack.cli.live import ConsoleTracker

    tracker = ConsoleTracker(info(tmp_path))
    tracker.log(1, {"loss": 3.25, "tokens_per_s": 1234.5, "data_wait": 0.001, "time_s": 1.0})
    tracker.text(1, "sample", "[bold]words")
    tracker.close()
    shown = capfd.readouterr().err
    assert "step 1/100  loss 3.2500  tokens/s 1,234  data wait 0.1%" in shown
    assert "[bold]words" in shown


def test_live_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from rich.console import Console

    from tokpack.cli import live

    out = io.StringIO()
    monkeypatch.setattr(live, "stderr", lambda: Console(file=out, force_terminal=True, width=120))
    tracker = live.ConsoleTracker(info(tmp_path))
    tracker.log(10, {"loss": 3.0, "lr": 1e-3, "mfu": 0.41, "memory_gb": 1.5, "time_s": 10.0})
    tracker.log(20, {"loss": 2.5, "time_s": 20.0})
    tracker.close()
    shown = out.getvalue()
    for text in ("20/100", "2.5000", "1.00e-03", "41.0%", "1 min 20 s"):
        assert text in shown


def test_chart_shows_ranges_names_and_a_falling_line() -> None:
    curve = Curve("mine", [(step, 5.0 - step / 25) for step in range(101)])
    lines = draw("loss", [curve], width=60).splitlines()
    assert lines[0] == "loss"
    assert "5" in lines[1]
    assert "1" in lines[12]
    assert "mine" in lines[-1]

    def first_dot(line: str) -> int:
        body = line.split("│")[1]
        return next(i for i, c in enumerate(body.replace("\x1b[36m", "").replace("\x1b[0m", "")) if c != " ")

    assert first_dot(lines[1]) < first_dot(lines[6]) < first_dot(lines[12])


def test_chart_of_one_point_is_drawn() -> None:
    assert "└" in draw("loss", [Curve("one", [(3.0, 2.0)])])


def test_metrics_are_complete(start: Start, finish: Finish, records: Callable[[Path], list[Any]]) -> None:
    run = start("log.every=5")
    finish(run)
    found = records(run.folder.path)
    logged = [record for record in found if "loss" in record]
    assert [record["step"] for record in logged] == [5, 10, 12]
    wanted = {"loss", "lr", "grad_norm", "tokens", "tokens_per_s", "mfu", "data_wait", "time_s", "step_ms"}
    assert wanted <= logged[0].keys()
    assert [record["step"] for record in found if "validation_loss" in record] == [5, 10, 12]
    assert [record["step"] for record in found if "sample" in record] == [5, 10, 12]
