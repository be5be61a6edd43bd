"""Numbers about the run: speed between two reports, and losses that leap."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["LossWatch", "Speed"]


class LossWatch:
    """Notices losses that are not finite, or far above the recent ones."""

    WINDOW = 100
    LEAST = 20  # losses to have seen before one can stand out

    def __init__(self, sigmas: float, recent: Iterable[float] = ()) -> None:
        self.sigmas = sigmas
        self.recent = deque(recent, maxlen=self.WINDOW)
        self.bad_in_a_row = 0

    def see(self, loss: float, norm: float) -> str:
        """Take the next loss and norm of gradients; return what is wrong with them, or ""."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.bad_in_a_row += 1
            return f"the loss is {loss}, its gradient's norm {norm}; the weights were left as they were"
        self.bad_in_a_row = 0
        message = ""
        if self.sigmas and len(self.recent) >= self.LEAST:
            count = len(self.recent)
            mean = math.fsum(self.recent) / count
            deviation = math.sqrt(math.fsum((seen - mean) ** 2 for seen in self.recent) / count)
            spread = max(deviation, 1e-3 * abs(mean))
            if loss > mean + self.sigmas * spread:
                message = f"the loss leapt to {loss:.4f}; lately it was {mean:.4f} ± {spread:.4f}"
        self.recent.append(loss)
        return message


class Speed:
    """Time, tokens and waiting between two reports."""

    def __init__(self, *, flops_per_token: int, peak: float, device: torch.device) -> None:
        self._flops, self._peak, self._device = flops_per_token, peak, device
        self.restart()

    def restart(self) -> None:
        """Begin to measure again: after evaluation, saving or anything else that is not training."""
        self._begin, self._waited, self._tokens, self._steps = time.perf_counter(), 0.0, 0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count what is inside as time spent waiting for data."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._waited += time.perf_counter() - begin

    def count(self, tokens: int) -> None:
        """Count one step."""
        self._tokens += tokens
        self._steps += 1

    def report(self) -> dict[str, float]:
        """Return speed since the last report, and begin again; {} if there was no step.

        ``mfu`` and ``data_wait`` are shares; ``memory_gb`` is the most that was held, in 2**30 bytes.
        """
        if not self._steps:
            return {}
        elapsed = max(time.perf_counter() - self._begin, 1e-9)
        rate = self._tokens / elapsed
        numbers = {
            "tokens_per_s": rate,
            "step_ms": 1000 * elapsed / self._steps,
            "mfu": rate * self._flops / self._peak,
            "data_wait": self._waited / elapsed,
        }
        if self._device.type == "cuda":
            numbers["memory_gb"] = torch.cuda.max_memory_allocated(self._device) / 2**30
        self.restart()
        return numbers
