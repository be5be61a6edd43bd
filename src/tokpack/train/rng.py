"""All random generators of the process as tensors, so that saving them needs no pickle."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from tokpack.errors import DamagedError
from tokpack.train.devices import Compute

__all__ = ["gather_rng", "load_rng", "seed_everything"]


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def gather_rng(compute: Compute) -> dict[str, Tensor]:
    """Return the states of Python's, NumPy's and torch's generators as ``NAME.RANK``, for every rank."""
    own = _state(compute.device)
    gathered: dict[str, Tensor] = {}
    for name, state in own.items():
        every = [torch.empty_like(state) for _ in range(compute.world_size)]
        if compute.control is None:
            every = [state]
        else:
            dist.all_gather(every, state, group=compute.control)
        gathered |= {f"{name}.{rank}": each for rank, each in enumerate(every)}
    return gathered


def _state(device: torch.device) -> dict[str, Tensor]:
    _, words, _ = random.getstate()
    name, keys, position, _, _ = np.random.get_state(legacy=True)
    assert name == "MT19937"
    states = {
        "python": torch.tensor(words, dtype=torch.int64),
        "numpy": torch.from_numpy(np.append(np.asarray(keys, np.int64), position)),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def load_rng(states: Mapping[str, Tensor], compute: Compute) -> None:
    """Bring back this rank's part of what `gather_rng` returned; a rank that is new keeps its seed.

    Raises:
        DamagedError: the states are none.
    """
    rank, device = compute.rank, compute.device
    if f"torch.{rank}" not in states:
        return
    try:
        random.setstate((3, tuple(states[f"python.{rank}"].tolist()), None))
        numbers = states[f"numpy.{rank}"].numpy()
        np.random.set_state(("MT19937", numbers[:-1].astype(np.uint32), int(numbers[-1]), 0, 0.0))
        torch.set_rng_state(states[f"torch.{rank}"])
        if device.type == "cuda" and f"cuda.{rank}" in states:
            torch.cuda.set_rng_state(states[f"cuda.{rank}"], device)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DamagedError(f"the checkpoint's random states are damaged: {error}") from error
