"""`tokpack train` and its companions as people run them: in a process of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

QUICK = ["--max-iters", "6", "--eval-every", "3", "--seq-len", "32", "--batch-size", "4"]
SMALL = ["--set", "model.num_layers=1", "--set", "model.hidden_size=32", "--set", "model.num_heads=2"]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "default"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tokpack", *arguments]


@pytest.fixture
def place(dataset: Path, tmp_path: Path) -> Path:
    """A folder with the dataset at ``./tokenized``."""
    shutil.copytree(dataset, tmp_path / "tokenized")
    return tmp_path


@pytest.fixture
def run(place: Path) -> Run:
    """Run `tokpack …` in ``place``."""
    return lambda *arguments: subprocess.run(
        command(*arguments), cwd=place, env=environment(), capture_output=True, text=True, timeout=120
    )


def test_from_nothing_but_a_dataset_to_text(run: Run, place: Path) -> None:
    done = run("train", "--sampler", "random-block", *QUICK)
    assert done.returncode == 0, done.stderr
    folder = place / "runs" / "tokenized-tiny"
    for name in ("config.toml", "run.json", "metrics.jsonl", "metrics.csv", "samples.txt", "tokenizer"):
        assert (folder / name).exists(), name
    assert done.stdout.strip() == (folder / "config.toml").read_text().strip()
    assert "seq_len = 32" in done.stdout
    assert "step 6/6  val loss" in done.stderr
    assert "parameters on cpu, " in done.stderr

    shutil.rmtree(place / "tokenized")  # the run folder is enough from here on
    written = run(
        "generate", str(folder), "--prompt", "the king", "-n", "20", "--samples", "2", "--top-p", "0.9"
    )
    assert written.returncode == 0, written.stderr
    assert written.stdout.count("the king") >= 2
    drawn = run("plot")
    assert drawn.returncode == 0, drawn.stderr
    assert "validation loss" in drawn.stdout
    assert (place / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert run("export", str(folder), "model").returncode == 0
    assert json.loads((place / "model" / "config.json").read_text())["model_type"] == "gpt2"


def test_settings_file_and_flags(run: Run, place: Path) -> None:
    (place / "run.toml").write_text('preset = "llama-tiny"\n[optim]\nlr = 0.5\n[data]\nsampler = "packed"\n')
    done = run(
        "train", "--config", "run.toml", *QUICK, "--lr", "1e-3", "--set", "optim.name=muon", "--name", "x"
    )
    assert done.returncode == 0, done.stderr
    saved = (place / "runs" / "x" / "config.toml").read_text()
    for line in ('preset = "llama-tiny"', "lr = 0.001", 'sampler = "packed"', 'name = "muon"'):
        assert line in saved.splitlines()
    again = run("train", "--config", "runs/x/config.toml", "--name", "y", "--quiet")
    assert (again.returncode, again.stdout) == (0, "")
    losses = [
        [record["loss"] for record in records(place / "runs" / name) if "loss" in record] for name in "xy"
    ]
    assert losses[0] == losses[1]  # the saved file alone repeats the run


def test_signal_to_the_process_saves_and_resume_finishes(place: Path, run: Run) -> None:
    arguments = ["train", "--max-iters", "100000", "--eval-every", "50", "--name", "long", *SMALL]
    process = subprocess.Popen(
        command(*arguments), cwd=place, env=environment(), stderr=subprocess.PIPE, text=True, stdout=-3
    )
    metrics = place / "runs" / "long" / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size > 500):
        assert process.poll() is None
        time.sleep(0.02)
    checked(run("train", "--resume", "runs/long"), 75, "runs/long is in use: another process trains there")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in errors
    assert "continue with: tokpack train --resume runs/long" in errors
    step = max(int(path.name[5:]) for path in (place / "runs/long/checkpoints").glob("step-*"))
    done = run("train", "--resume", "runs/long", "--max-iters", str(step + 5))
    assert done.returncode == 0, done.stderr
    assert f"continues at step {step:,}" in done.stderr
    assert f"done at step {step + 5:,}" in done.stderr


def checked(done: subprocess.CompletedProcess[str], code: int, *texts: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr  # one clear error, no traceback
    for text in texts:
        assert text in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "texts"),
    [
        (
            ["--set", "optim.learning_rate=1"],
            2,
            ["unknown setting 'optim.learning_rate' in the command line; did you mean 'optim.lr'?"],
        ),
        (["--preset", "gpt2-124"], 2, ["unknown preset 'gpt2-124'; did you mean 'gpt2-124m'?"]),
        (["--preset", "gpt2-1558m", "--batch-size", "4096"], 2, ["this needs about", "GiB free", "preset"]),
        (["--device", "cuda:7"], 2, ["'cuda:7' is not there", "--device cpu"]),
        (
            ["--preset", "tiny", "--sampler", "random-blok"],
            2,
            ["unknown sampler 'random-blok'", "'random-block'"],
        ),
        (["nowhere", "--preset", "tiny"], 4, ["nowhere does not exist", "tokpack encode"]),
        (["--resume", "runs/none"], 2, ["runs/none is no run folder"]),
        (["--set", "model.vocab_size=100"], 2, ["id 256", "vocabulary is 100", "at least 257"]),
        (["--set", "model.seq_len=8"], 2, ["data.seq_len is 256", "model.seq_len = 8"]),
        (["--seq-len", "10000000"], 2, ["10,000,000"]),
        (["--set", "data.global_batch_size=17"], 2, ["17", "batch_size"]),
    ],
)
def test_mistakes_get_one_clear_error(
    run: Run, place: Path, arguments: list[str], code: int, texts: list[str]
) -> None:
    checked(run("train", *arguments), code, *texts)
    assert not (place / "runs").exists()


def test_a_missing_validation_split_is_an_error_only_where_it_was_asked_for(place: Path, run: Run) -> None:
    (place / "data").mkdir()
    (place / "data" / "a.txt").write_text("no man shall pass\n" * 400)
    assert run("encode", "--tokenizer", "byte", "-o", "bare").returncode == 0
    checked(run("train", "bare", "--eval-every", "10"), 2, "has no split 'validation'", "--val-fraction")
    done = run("train", "bare", *QUICK[:2], *QUICK[4:], *SMALL)
    assert done.returncode == 0, done.stderr
    assert "not evaluated" in done.stderr


def test_damaged_folders(run: Run, place: Path) -> None:
    assert run("train", *QUICK, *SMALL, "--name", "x").returncode == 0
    folder = place / "runs" / "x"
    newest = max((folder / "checkpoints").glob("step-*"))
    os.truncate(newest / "model.safetensors", 500)
    checked(run("train", "--resume", "runs/x"), 1, "model.safetensors has 500 bytes", "earlier checkpoint")
    shutil.rmtree(newest)
    checked(
        run("train", "--resume", "runs/x", "--set", "model.num_layers=2"), 5, "num_layers: 1 there, 2 here"
    )
    (place / "tokenized" / "train.bin").write_bytes(b"1234")
    checked(run("train", *QUICK, *SMALL), 1, "train.bin has 4 bytes", "tokpack verify")


def records(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("parallel", "optimizer"),
    [
        ("ddp", "adamw"),
        pytest.param("fsdp", "adamw", marks=pytest.mark.nightly),
        pytest.param("fsdp", "muon", marks=pytest.mark.nightly),
    ],
)
def test_two_processes_train_as_one(run: Run, place: Path, parallel: str, optimizer: str) -> None:
    common = [
        "train", "--sampler", "packed", "--seq-len", "64", "--max-iters", "12", "--eval-every", "5",
        "--set", "data.global_batch_size=8", "--set", "log.every=1", "--dtype", "float32", *SMALL,
        "--set", f"optim.name={optimizer}", "--set", f"train.parallel={parallel}",
    ]  # fmt: skip
    assert run(*common, "--name", "one", "--batch-size", "8", "--set", "eval.batches=2").returncode == 0
    two = [*common, "--name", "two", "--batch-size", "2", "--set", "eval.batches=4"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tokpack"]
    done = subprocess.run(
        [sys.executable, *launch, *two],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, both = records(place / "runs" / "one"), records(place / "runs" / "two")
    for name in ("loss", "validation_loss", "grad_norm", "bits_per_byte"):
        expected = [record[name] for record in one if name in record]
        found = [record[name] for record in both if name in record]
        assert len(expected) == len(found) > 0
        assert found == pytest.approx(expected, rel=1e-5 if optimizer == "adamw" else 1e-3), name
    texts = [[record["sample"] for record in each if "sample" in record] for each in (one, both)]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 3
    assert all(texts[0])
    # A checkpoint knows nothing of how many processes made it.
    done = run("train", "--resume", "runs/two", "--max-iters", "14", "--batch-size", "8")
    assert done.returncode == 0, done.stderr


@pytest.mark.nightly
def test_ranks_agree_on_the_step_to_stop_at(run: Run, place: Path) -> None:
    """A signal reaches one of two processes: both end, with one checkpoint, and the run goes on."""
    arguments = ["train", "--max-iters", "100000", "--name", "long", "--set", "log.every=1", *SMALL]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tokpack"]
    process = subprocess.Popen(
        [sys.executable, *launch, *arguments], cwd=place, env=environment(), stdout=-3, stderr=-3
    )
    metrics = place / "runs" / "long" / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size > 500):
        assert process.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [pid for pid in children if b"tokpack" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(workers) == 2
    os.kill(int(workers[1]), signal.SIGTERM)
    process.wait(timeout=120)
    step = max(int(path.name[5:]) for path in (place / "runs/long/checkpoints").glob("step-*"))
    assert step == records(place / "runs" / "long")[-1]["step"]
    again = ["--resume", "runs/long", "--batch-size", "32", "--max-iters", str(step + 2)]
    done = run("train", *again)
    assert done.returncode == 0, done.stderr
