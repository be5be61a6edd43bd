"""What only a CUDA device can show of the loop; `benchmarks/train_gpu.py` measures how fast it is."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tokpack.train.attention import Kernel, attend, plan_attention
from tokpack.train.checkpoint import load_checkpoint
from tokpack.train.loop import Outcome
from tokpack.train.runs import Run

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

Start = Callable[..., Run]
Finish = Callable[..., Outcome]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("sampler", ["random-block", "packed"])
def test_deterministic_resume_is_bitwise(
    start: Start, finish: Finish, tmp_path: Path, optimizer: str, sampler: str
) -> None:
    """Stopped after each of some random steps, thirteen times for each choice."""
    options = (
        f"train.device={DEVICE}",
        "train.dtype=bfloat16",
        "train.deterministic=true",
        "train.max_iters=60",
        "model.hidden_size=64",  # heads that flash attention takes
        "data.seq_len=64",
        f"data.sampler={sampler}",
        f"optim.name={optimizer}",
    )
    try:
        whole = start(*options, root=tmp_path / "whole")
        finish(whole)
        run = start(*options)
        for step in sorted(random.Random(3).sample(range(1, 60), 13)):
            finish(run, at=step)
            run = start(resume=run.folder.path)
        finish(run)
    finally:
        torch.use_deterministic_algorithms(False)
    found, expected = (load_checkpoint(each.folder.path) for each in (run, whole))
    for part in ("model", "optimizer", "rng"):
        ours, theirs = getattr(found, part), getattr(expected, part)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items()), part


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("sampler", ["random-block", "packed"])
def test_steps_between_reports_do_not_wait_for_the_device(
    start: Start, finish: Finish, optimizer: str, sampler: str
) -> None:
    run = start(
        f"train.device={DEVICE}",
        "train.dtype=bfloat16",
        "train.compile=off",
        "train.max_iters=20",
        "log.every=100",
        "eval.every=0",
        "sample.every=0",
        f"data.sampler={sampler}",
        f"optim.name={optimizer}",
    )
    made, step = 0, run.optimizers.step

    def watched(finite: Any) -> None:
        nonlocal made
        made += 1
        step(finite)
        if DEVICE == "cuda":  # the first steps make kernels, buffers and moments
            torch.cuda.set_sync_debug_mode("error" if 3 <= made < 19 else "default")

    run.optimizers.step = watched  # type: ignore[method-assign]
    finish(run)
    assert made == 20


@pytest.mark.parametrize("kernel", ["varlen", "flex"])
@pytest.mark.parametrize("window", [0, 48])
def test_kernels_agree_and_keep_documents_apart(kernel: Kernel, window: int) -> None:
    """With the dense mask, in float32, to what bfloat16 can tell."""
    rows, seq_len, chance = 2, 128, torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(rows, 4, seq_len, 64, generator=chance).to(DEVICE) for _ in range(3))
    cuts = [0, 40, 128, 128 + 100, 256]
    segments = torch.tensor([[1] * 40 + [2] * 88, [1] * 100 + [2] * 28], device=DEVICE)
    common: dict[str, Any] = {"rows": rows, "seq_len": seq_len, "device": torch.device(DEVICE)}
    bounds = torch.tensor(cuts, dtype=torch.int32, device=DEVICE)
    plans = {
        name: plan_attention(name, window=window, segment_ids=segments, cu_seqlens=bounds, **common)
        for name in (kernel, "sdpa")
    }

    def attended(name: Kernel, dtype: torch.dtype) -> torch.Tensor:
        arguments = (tensor.to(dtype) for tensor in (q, k, v))
        return attend(*arguments, plans[name], window=window, scale=0.125, dropout=0.0)

    found = attended(kernel, torch.bfloat16)
    torch.testing.assert_close(found.float(), attended("sdpa", torch.float32), atol=2e-2, rtol=2e-2)
    k[0, :, :40] += 1.0  # the first document of the first row
    assert torch.equal(found[0, :, 40:], attended(kernel, torch.bfloat16)[0, :, 40:])
