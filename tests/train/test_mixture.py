"""`tokpack train --data a=0.7 --data b=0.3`: several datasets in one run, as people start it."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokpack.encoding.options import EncodeOptions
from tokpack.encoding.run import encode_job
from tokpack.errors import MismatchError, UsageError
from tokpack.protocols import SourceOptions
from tokpack.samplers.mixture import Mixture
from tokpack.train.checkpoint import load_checkpoint
from tokpack.train.corpus import parse_mixture
from tokpack.train.layers import layered
from tokpack.train.loop import Outcome
from tokpack.train.runs import Run

Command = Callable[..., "subprocess.CompletedProcess[str]"]

QUICK = ["--seq-len", "16", "--batch-size", "4", "--max-iters", "10", "--device", "cpu", "--dtype", "float32"]
SMALL = ["--set", "model.num_layers=1", "--set", "model.hidden_size=16", "--set", "model.num_heads=2"]
MIXED = ["--data", "./web=0.7", "--data", "./code=0.3"]


def make(folder: Path, name: str, text: str, *, documents: int, val_fraction: float = 0.1) -> None:
    chance = random.Random(name)
    source = folder / f"{name}.txt"
    lines = [f"{text} {number} {'x' * chance.randint(0, 30)}" for number in range(documents)]
    source.write_text("\n".join(lines))
    rules = SourceOptions(split="lines")
    options = EncodeOptions(tokenizer="byte", val_fraction=val_fraction, source=rules)
    encode_job([str(source)], options, output=folder / name)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``web`` and ``code``, written by one tokenizer, and three that do not go with them."""
    folder = tmp_path_factory.mktemp("datasets")
    make(folder, "web", "the king said that", documents=300)
    make(folder, "code", "def f(x): return x +", documents=60)
    make(folder, "bare", "no validation", documents=60, val_fraction=0.0)
    make(folder, "short", "s", documents=1, val_fraction=0.0)
    other = shutil.copytree(folder / "code", folder / "other") / "manifest.json"
    fingerprint = json.loads(other.read_text())["tokenizer"]["fingerprint"]
    other.write_bytes(other.read_bytes().replace(fingerprint.encode(), b"0" * 64))
    return folder


@pytest.fixture
def run(datasets: Path, tmp_path: Path, tokpack: Any) -> Command:
    """Run `tokpack …` in a folder that holds all datasets."""
    for path in datasets.iterdir():
        if path.is_dir():
            shutil.copytree(path, tmp_path / path.name)
    return lambda *arguments: tokpack(*arguments, OMP_NUM_THREADS="1")


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_datasets_from_the_command_line(run: Command, tmp_path: Path) -> None:
    done = run("train", *MIXED, *QUICK, *SMALL, "--eval-every", "5", "--set", "log.every=5")
    assert done.returncode == 0, done.stderr
    assert 'mixture = {"./web" = 0.7, "./code" = 0.3}' in done.stdout
    folder = tmp_path / "runs" / "web+code-model"
    last = [record for record in records(folder) if "loss" in record][-1]
    shown = f"web {last['epoch/web']:.2f}, code {last['epoch/code']:.2f}"
    assert f"epochs: {shown}" in done.stderr.splitlines()[-2]
    assert f"epoch {shown}" in done.stderr
    # 40 rows, 28 of one and 12 of the other; the smaller dataset is a fifth, so it comes round sooner.
    assert last["epoch/code"] > last["epoch/web"] > 0
    facts = json.loads((folder / "run.json").read_text())
    assert facts["datasets"] == {"web": "web", "code": "code"}
    assert facts["weights"] == {"web": 0.7, "code": 0.3}
    evaluated = [record for record in records(folder) if "validation_loss" in record]
    assert all(record["bits_per_byte"] > 0 for record in evaluated)
    assert len(evaluated) == 2

    # The datasets may move, and the saved settings alone repeat the run.
    (tmp_path / "moved").mkdir()
    for name in ("web", "code"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    moved = ["--data", "moved/web=0.7", "--data", "moved/code=0.3"]
    done = run("train", "--resume", str(folder), *moved, "--max-iters", "12")
    assert done.returncode == 0, done.stderr
    assert "continues at step 10" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "web"], 2, "--data is 'web'; write PATH=WEIGHT, such as ./web=0.7"),
        (["--data", "web=much"], 2, "the weight of 'web' is 'much'; write a number"),
        (["--data", "web=0", "--data", "code=1"], 2, "the weight of 'web' is 0.0; give more than 0"),
        (["--data", "web=-1", "--data", "code=1"], 2, "the weight of 'web' is -1.0; give more than 0"),
        (["--data", "web=nan", "--data", "code=1"], 2, "the weight of 'web' is nan; write a number"),
        (["--data", "web=1e-9", "--data", "code=1"], 2, "below 1/10,000 of all weights"),
        (["--data", "web=1", "--data", "web=2"], 2, "--data names 'web' twice"),
        (["--data", "web=1", "--data", "./web=2"], 2, "'web' and './web' are the same dataset"),
        (["--data", "web=1", "--data", "nowhere=1"], 4, "nowhere does not exist"),
        (["web", "--data", "code=1"], 2, "web and --data exclude each other"),
        (
            ["--data", "web=1", "--data", "other=1"],
            5,
            "'web' and 'other' were written by different",
        ),
        (["--data", "web=1", "--data", "short=1"], 2, "short, train: the split holds"),
        (["--data", "web=1", "--data", "bare=1", "--eval-every", "5"], 2, "bare has no split 'validation'"),
    ],
)
def test_mistakes_get_one_clear_error(
    run: Command, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    done = run("train", *arguments, *QUICK, *SMALL)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (tmp_path / "runs").exists()


def test_resume_of_a_mixture_is_bitwise(
    start: Callable[..., Run], finish: Callable[..., Outcome], datasets: Path, tmp_path: Path
) -> None:
    """The run is stopped at several steps; one dataset goes through epochs meanwhile."""
    mixture = f"data.mixture={{'{datasets / 'web'}' = 2, '{datasets / 'code'}' = 1}}"
    options = (mixture, "data.sampler=packed", "train.max_iters=60", "optim.lr=1e-2", "eval.every=20")
    whole = start(*options, root=tmp_path / "whole")
    finish(whole)
    assert isinstance(whole.sampler, Mixture)
    assert whole.sampler.epochs_of_parts(240)["code"] > 0.5
    run = start(*options)
    for step in (1, 7, 20, 33):
        finish(run, at=step)
        run = start(resume=run.folder.path)
    finish(run)
    found, expected = (load_checkpoint(each.folder.path) for each in (run, whole))
    assert found.state["loader"] == expected.state["loader"]
    assert all((found.model[name] == tensor).all() for name, tensor in expected.model.items())


def test_other_weights_are_another_run(
    start: Callable[..., Run], finish: Callable[..., Outcome], datasets: Path
) -> None:
    web, code = datasets / "web", datasets / "code"
    run = start(f"data.mixture={{'{web}' = 0.7, '{code}' = 0.3}}", "train.max_iters=2")
    finish(run)
    with pytest.raises(MismatchError, match="weights was '7:3' and is '3:2'"):
        start(f"data.mixture={{'{web}' = 0.6, '{code}' = 0.4}}", resume=run.folder.path)


def test_pages_are_touched_ahead_unless_that_is_unwanted(
    start: Callable[..., Run], datasets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[int] = []
    monkeypatch.setattr(
        "tokpack.train.corpus.populate_in_background", lambda *stores: touched.append(sum(map(len, stores)))
    )
    mixture = f"data.mixture={{'{datasets / 'web'}' = 1, '{datasets / 'code'}' = 1}}"
    start(mixture, "data.populate=false", "log.name=a").close()
    assert not touched
    run = start(mixture, "log.name=b")
    run.close()
    assert touched == [run.facts["train_tokens"]]


def test_notes_name_the_dataset(start: Callable[..., Run], datasets: Path) -> None:
    from tokpack.train.provenance import describe_rows

    run = start(f"data.mixture={{'{datasets / 'web'}' = 1, '{datasets / 'code'}' = 1}}")
    try:
        said = describe_rows(run.sampler, run.loader.share, 3)
    finally:
        run.close()
    assert said.startswith("rows 12 to 15, documents of ")
    assert "documents of web " in said
    assert "documents of code " in said


def test_different_tokenizers_are_refused_before_torch_is_needed(datasets: Path) -> None:
    from tokpack.plugins import discover
    from tokpack.train.config import DataConfig
    from tokpack.train.corpus import open_corpus

    mixture = {str(datasets / "web"): 1.0, str(datasets / "other"): 1.0}
    with pytest.raises(MismatchError, match="the same id means different text"):
        open_corpus(DataConfig(mixture=mixture), discover())


def test_data_named_later_stands_in_place_of_data_named_before() -> None:
    saved = {"data": {"dataset": "./x", "mixture": {"a": 1.0, "b": 2.0}, "seq_len": 8}}
    assert layered([saved]).data.mixture == {"a": 1.0, "b": 2.0}
    replaced = layered([saved, {"data": {"mixture": {"c": 3.0}}}]).data
    assert (replaced.mixture, replaced.seq_len) == ({"c": 3.0}, 8)
    assert layered([saved, {"data": {"dataset": "./y"}}]).data.mixture == {}
    assert layered([saved, {"train": {"seed": 1}}]).data.mixture == {"a": 1.0, "b": 2.0}


def test_paths_may_hold_an_equals_sign() -> None:
    assert parse_mixture(["./run=3/web=0.5", "b=1"]) == {"./run=3/web": 0.5, "b": 1.0}
    with pytest.raises(UsageError, match="write PATH=WEIGHT"):
        parse_mixture(["=1"])
