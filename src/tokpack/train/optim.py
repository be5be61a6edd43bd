"""AdamW, or Muon for the matrices with AdamW for the rest, under one small surface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from tokpack.errors import DamagedError
from tokpack.train.config import OptimConfig
from tokpack.train.muon import Muon

__all__ = ["Optimizers", "clip_gradients"]


class Optimizers:
    """The optimizers of one model, stepped together; their state is named after the parameters."""

    def __init__(self, model: nn.Module, config: OptimConfig, *, fused: bool) -> None:
        self.names: dict[Tensor, str] = {
            parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad
        }
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.fused = fused
        muon = [p for p, name in self.names.items() if config.name == "muon" and _is_hidden_matrix(name, p)]
        taken = set(muon)
        rest = [parameter for parameter in self.parameters if parameter not in taken]
        groups = [
            {"params": [p for p in rest if p.dim() >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
        ]
        self.adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            fused=fused,
        )
        self.muon = (
            Muon(muon, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
            if config.name == "muon"
            else None
        )
        self.all: list[torch.optim.Optimizer] = [self.adamw, *([self.muon] if self.muon else [])]

    def set_lr(self, lr: float) -> None:
        """Set the rate of every group."""
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = lr

    def step(self, finite: Tensor) -> None:
        """Update the weights, unless ``finite`` (bool, scalar, on the device) says the gradients are not.

        With fused AdamW the device itself decides, so that the host never waits for it.
        """
        if self.fused:
            # The attribute through which torch's own GradScaler makes a fused optimizer skip a step.
            cast(Any, self.adamw).found_inf = (~finite).float()
            self.adamw.step()
        elif bool(finite):
            self.adamw.step()
        if self.muon is not None:
            self.muon.step(finite=finite)

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Tensor]:
        """Return moments and step counts as ``PARAMETER/KEY``."""
        return {
            f"{self.names[parameter]}/{key}": value if isinstance(value, Tensor) else torch.tensor(value)
            for optimizer in self.all
            for parameter, state in optimizer.state.items()
            for key, value in state.items()
        }

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Bring back what `state_dict` returned; an empty mapping means that no step was made yet.

        Raises:
            DamagedError: a tensor belongs to no parameter, or has another shape.
        """
        by_name = {name: parameter for parameter, name in self.names.items()}
        owner = {p: o for o in self.all for group in o.param_groups for p in group["params"]}
        for optimizer in self.all:
            optimizer.state.clear()
        for full_name, value in tensors.items():
            name, _, key = full_name.rpartition("/")
            parameter = by_name.get(name)
            if parameter is None or (value.dim() and value.shape != parameter.shape):
                raise DamagedError(
                    f"optimizer state {full_name!r} of shape {tuple(value.shape)} fits no parameter; "
                    "the checkpoint was made by another model"
                )
            owner[parameter].state[parameter][key] = _placed(value, parameter, self.fused)


def _is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    return parameter.dim() == 2 and not name.startswith(("embedding.", "position.", "head."))


def _placed(value: Tensor, parameter: Tensor, fused: bool) -> Tensor:
    """A copy of ``value`` where the optimizer of ``parameter`` keeps it: beside it, sharded as it is (FSDP2).

    Counts of steps stay on the host unless the kernel is fused: it would be asked for them at each step.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not value.dim():
        return value.to(parameter.device if fused else "cpu", copy=True)
    if not isinstance(parameter, DTensor):
        return value.to(parameter.device, copy=True)
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)


def clip_gradients(parameters: list[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients so that their norm is at most ``limit`` (0: only measure).

    Returns the norm before clipping: float32 scalar on the device; no wait for it.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if hasattr(norm, "full_tensor"):
        norm = norm.full_tensor()
    if limit > 0:
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm
