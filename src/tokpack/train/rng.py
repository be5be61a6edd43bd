"""All random generators of the process as tensors, so that saving them needs no pickle."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

__all__ = ["load_rng", "rng_state", "seed_everything"]


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of Python's, NumPy's and torch's generators, and of ``device``'s own."""
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


def load_rng(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Bring back what `rng_state` returned."""
    random.setstate((3, tuple(states["python"].tolist()), None))
    numbers = states["numpy"].numpy()
    np.random.set_state(("MT19937", numbers[:-1].astype(np.uint32), int(numbers[-1]), 0, 0.0))
    torch.set_rng_state(states["torch"].to(torch.uint8))
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].to(torch.uint8), device)
