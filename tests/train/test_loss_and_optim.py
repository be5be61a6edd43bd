from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tokpack.errors import DamagedError
from tokpack.train.config import ModelConfig, OptimConfig, ScheduleConfig
from tokpack.train.loss import chunk_for, cross_entropy_sum, linear_cross_entropy_sum
from tokpack.train.model import GPT
from tokpack.train.muon import Muon
from tokpack.train.optim import Optimizers, clip_gradients
from tokpack.train.schedule import learning_rate
from tokpack.train.shape import complete


@pytest.mark.parametrize("chunk", [1, 7, 16, 64])
@pytest.mark.parametrize("padded", [False, True])
def test_chunked_loss_and_gradients_equal_the_whole(chunk: int, padded: bool) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(4, 8, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(50, 16, dtype=torch.float64, requires_grad=True)
    bias = (
        torch.zeros(50, dtype=torch.float64).index_fill(0, torch.arange(45, 50), -math.inf)
        if padded
        else None
    )
    labels = torch.randint(0, 45, (4, 8))
    labels[0], labels[2, 3:] = -100, -100
    whole = 3.0 * linear_cross_entropy_sum(hidden, weight, bias, labels)
    parts = 3.0 * linear_cross_entropy_sum(hidden, weight, bias, labels, chunk=chunk)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-4)
    expected, found = (torch.autograd.grad(loss, [hidden, weight]) for loss in (whole, parts))
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)
    assert not found[0][0].any()  # an ignored position moves nothing


def test_everything_ignored_is_zero_not_nan() -> None:
    labels = torch.full((2, 3), -100)
    assert cross_entropy_sum(torch.randn(2, 3, 5), labels).item() == 0.0


def test_chunks_only_where_logits_are_large() -> None:
    def chunk(requested: int, *, tokens: int, vocab_size: int) -> int:
        return chunk_for(requested, tokens=tokens, vocab_size=vocab_size, device=torch.device("cpu"))

    assert chunk(0, tokens=65_536, vocab_size=50_304) == 4096
    assert chunk(0, tokens=8192, vocab_size=50_304) == 1280
    assert chunk(0, tokens=2048, vocab_size=1024) == 0
    assert chunk(512, tokens=2048, vocab_size=1024) == 512
    assert chunk(4096, tokens=2048, vocab_size=1024) == 0


def tiny_model() -> GPT:
    torch.manual_seed(0)
    return GPT(complete(ModelConfig(num_layers=1, hidden_size=16, num_heads=2), vocab_size=32, seq_len=8))


def one_step(model: GPT, optimizers: Optimizers, seed: int, *, scale: float = 1.0) -> None:
    ids = torch.randint(0, 32, (2, 8), generator=torch.Generator().manual_seed(seed))
    (cross_entropy_sum(model(ids), ids.roll(-1, 1)) * scale).backward()
    norm = clip_gradients(optimizers.parameters, 1.0)
    optimizers.step(torch.isfinite(norm))
    optimizers.zero_grad()


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("fused", [True, False])
def test_optimizer_state_comes_back_bit_for_bit(name: str, fused: bool) -> None:
    config = OptimConfig(name=name, lr=1e-2)
    model = tiny_model()
    optimizers = Optimizers(model, config, fused=fused)
    for seed in range(3):
        one_step(model, optimizers, seed)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    state = {key: value.clone() for key, value in optimizers.state_dict().items()}
    other = tiny_model()
    other.load_state_dict(weights)
    resumed = Optimizers(other, config, fused=fused)
    resumed.load_state_dict(state)
    for pair in [(model, optimizers), (other, resumed)]:
        for seed in range(3, 6):
            one_step(*pair, seed)
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    assert {k: v.tolist() for k, v in optimizers.state_dict().items()} == {
        k: v.tolist() for k, v in resumed.state_dict().items()
    }


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_bad_step_changes_neither_weights_nor_moments(name: str) -> None:
    model = tiny_model()
    optimizers = Optimizers(model, OptimConfig(name=name), fused=True)
    one_step(model, optimizers, 0)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    state = {key: value.clone() for key, value in optimizers.state_dict().items()}
    one_step(model, optimizers, 1, scale=math.nan)
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    assert all(torch.equal(state[key], value) for key, value in optimizers.state_dict().items())


@pytest.mark.parametrize("shape", [(16, 16), (48, 16), (16, 48)])
def test_muon_is_torchs_own(shape: tuple[int, int]) -> None:
    """The same weights and momenta, bit for bit, over ten steps."""
    chance = torch.Generator().manual_seed(1)
    ours = nn.Parameter(torch.randn(shape, generator=chance))
    theirs = nn.Parameter(ours.detach().clone())
    settings = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.1}
    optimizer = Muon([ours], **settings)
    reference = torch.optim.Muon([theirs], **settings, adjust_lr_fn="match_rms_adamw")
    for _ in range(10):
        ours.grad = torch.randn(shape, generator=chance)
        theirs.grad = ours.grad.clone()
        optimizer.step(finite=torch.tensor(True))
        reference.step()
        assert torch.equal(ours, theirs)
        assert torch.equal(
            optimizer.state[ours]["momentum_buffer"], reference.state[theirs]["momentum_buffer"]
        )


class NoWaiting(TorchDispatchMode):
    """Fails where the host reads a number of the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default, "the host waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_step_does_not_wait_for_the_device(name: str) -> None:
    model = tiny_model()
    optimizers = Optimizers(model, OptimConfig(name=name), fused=True)
    one_step(model, optimizers, 0)
    with pytest.raises(AssertionError, match="the host waits"), NoWaiting():
        bool(torch.tensor(True))
    with NoWaiting():
        one_step(model, optimizers, 1)


def test_muon_takes_hidden_matrices_only() -> None:
    optimizers = Optimizers(tiny_model(), OptimConfig(name="muon"), fused=True)
    taken = [optimizers.names[p] for group in optimizers.all[1].param_groups for p in group["params"]]
    assert taken == [
        f"blocks.0.{part}.weight" for part in ("attention.qkv", "attention.out", "ffn.up", "ffn.down")
    ]


def test_norms_and_biases_do_not_decay() -> None:
    optimizers = Optimizers(tiny_model(), OptimConfig(), fused=True)
    for group in optimizers.adamw.param_groups:
        assert all((p.dim() >= 2) == (group["weight_decay"] > 0) for p in group["params"])


def test_state_of_another_model_is_refused() -> None:
    optimizers = Optimizers(tiny_model(), OptimConfig(), fused=True)
    with pytest.raises(DamagedError, match="made by another model"):
        optimizers.load_state_dict({"nothing.weight/exp_avg": torch.zeros(2, 2)})
    with pytest.raises(DamagedError, match=r"norm.weight/exp_avg.*\(3,\)"):
        optimizers.load_state_dict({"norm.weight/exp_avg": torch.zeros(3)})


def test_clipping_is_torch_own() -> None:
    model = nn.Linear(4, 4)
    model(torch.ones(2, 4)).sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    assert clip_gradients(list(model.parameters()), 0.0) == torch.nn.utils.get_total_norm(gradients)
    clip_gradients(list(model.parameters()), 0.5)
    assert torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]).item() == pytest.approx(0.5)


RATES = {
    "cosine": [0.5, 1.0, 1.0, 0.55, 0.1],
    "linear": [0.5, 1.0, 1.0, 0.55, 0.1],
    "wsd": [0.5, 1.0, 1.0, 1.0, 0.1],
    "constant": [0.5, 1.0, 1.0, 1.0, 1.0],
}


@pytest.mark.parametrize("name", RATES)
def test_schedules(name: str) -> None:
    config = ScheduleConfig(name=name, warmup=2, decay=0.2, final=0.1)
    rates = [learning_rate(step, peak=1.0, max_iters=102, config=config) for step in range(103)]
    assert [rates[step] for step in (0, 1, 2, 52, 102)] == pytest.approx(RATES[name])
    assert all(a >= b for a, b in itertools.pairwise(rates[2:]))
    assert name != "wsd" or (rates[82] == 1.0 > rates[83])
