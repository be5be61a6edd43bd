"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from tokpack.train.config import ScheduleConfig

__all__ = ["learning_rate", "warmup_steps"]


def warmup_steps(config: ScheduleConfig, max_iters: int) -> int:
    """Return the steps of warm-up; unless given, a twentieth of the run, at most 2000."""
    return config.warmup if config.warmup >= 0 else min(2000, max_iters // 20)


def learning_rate(step: int, *, peak: float, max_iters: int, config: ScheduleConfig) -> float:
    """Return the rate for the update that follows ``step`` finished ones.

    Warm-up is linear and never 0. `cosine` and `linear` fall from ``peak`` to ``config.final`` × ``peak`` at
    the end of the run; `wsd` (warm-up, stable, decay; Hu et al., 2024) falls over the last ``config.decay``
    of it; `constant` stays.
    """
    warmup = warmup_steps(config, max_iters)
    if step < warmup:
        return peak * (step + 1) / warmup
    low = peak * config.final
    if config.name == "constant":
        return peak
    if config.name == "wsd":
        begin = max(warmup, max_iters - round(config.decay * max_iters))
        return peak if step < begin else peak + (low - peak) * _progress(step, begin, max_iters)
    progress = _progress(step, warmup, max_iters)
    if config.name == "linear":
        return peak + (low - peak) * progress
    return low + (peak - low) * 0.5 * (1.0 + math.cos(math.pi * progress))


def _progress(step: int, begin: int, end: int) -> float:
    return min(1.0, (step - begin) / max(1, end - begin))
