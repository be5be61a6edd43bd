"""The examples run as they are printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, env=environment, timeout=500
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_plain_loop() -> None:
    pytest.importorskip("torch", reason="needs torch")
    printed = run("feed_pytorch_loop.py")
    assert "step  60" in printed
    assert "resumed at step 60" in printed


@pytest.mark.nightly
def test_hugging_faces_trainer() -> None:
    for package in ("torch", "transformers", "accelerate"):
        pytest.importorskip(package, reason=f"needs {package}")
    assert "20 steps, mean loss" in run("feed_huggingface_trainer.py")
