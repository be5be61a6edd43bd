"""Muon: momentum whose matrices are made orthogonal before they move the weights.

After Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), with the learning rate
scaled so that updates are as large as AdamW's (Liu et al., "Muon is scalable for LLM training", 2025). It
differs from `torch.optim.Muon`, against which it is tested, in that a step can be skipped without the host
waiting for the device, and in that weights may be spread over ranks by FSDP2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate

__all__ = ["Muon", "orthogonalise"]

#: Coefficients of the quintic iteration, and how often it runs (Jordan et al.).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum for matrices, (rows, columns) each. State: ``momentum_buffer``."""

    def __init__(
        self, parameters: Iterable[Tensor], *, lr: float, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None, *, finite: Tensor | None = None) -> None:  # type: ignore[override]
        """Update the weights; where ``finite`` (bool, scalar, on the device) is false, nothing changes."""
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                weight, buffer = _local(parameter), _local(state["momentum_buffer"])
                gradient = _local(parameter.grad)
                averaged = torch.lerp(buffer, gradient, 1 - momentum)
                update = _orthogonal_part(torch.lerp(gradient, averaged, momentum), parameter)
                scale = lr * 0.2 * math.sqrt(max(parameter.shape))
                moved = torch.add(weight * (1 - lr * group["weight_decay"]), update, alpha=-scale)
                buffer.copy_(averaged if finite is None else torch.where(finite, averaged, buffer))
                weight.copy_(moved if finite is None else torch.where(finite, moved, weight))


def orthogonalise(matrix: Tensor) -> Tensor:
    """Bring all singular values of a matrix near 1: five Newton-Schulz iterations, bfloat16."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.bfloat16()
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.T if tall else x


def _local(tensor: Tensor) -> Tensor:
    """Return this rank's part of a tensor that FSDP2 spread over ranks; others as they are."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _orthogonal_part(momentum: Tensor, parameter: Tensor) -> Tensor:
    """Make this rank's part of a momentum orthogonal: only the whole matrix can be, so it is gathered."""
    if not isinstance(parameter, DTensor):
        return orthogonalise(momentum)
    mesh, placements = parameter.device_mesh, parameter.placements
    spread = DTensor.from_local(
        momentum, mesh, placements, run_check=False, shape=parameter.shape, stride=parameter.stride()
    )
    whole = orthogonalise(spread.full_tensor())
    replicated = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return replicated.redistribute(mesh, placements).to_local()
