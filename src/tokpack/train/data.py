"""Rows for one rank, on its device: the global batch of a step is the same for every world size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokpack.batches import Batch
from tokpack.errors import UsageError
from tokpack.train.attention import AttentionPlan, Kernel, plan_attention
from tokpack.train.loss import IGNORE_INDEX

__all__ = ["DeviceRows", "RowPlan", "Widener", "padded_cu_seqlens", "to_rows"]


class DeviceRows(NamedTuple):
    """One micro-batch as the model takes it; all but ``plan`` are (rows, seq_len), int64.

    ``position_ids`` and ``segment_ids`` are None where rows are not packed.
    """

    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor | None
    segment_ids: Tensor | None
    plan: AttentionPlan


def to_rows(
    tokens: Tensor,
    segment_ids: Tensor | None,
    *,
    kernel: Kernel,
    window: int,
    isolate: bool,
    cu_seqlens: Tensor | None = None,
) -> DeviceRows:
    """Widen and shift windows on the device that they are on; every shape is known beforehand.

    ``tokens`` and ``segment_ids`` are (rows, seq_len + 1), uint16 or uint32. Labels are ignored on padding
    and where the next token belongs to another segment.
    """
    wide = tokens.to(torch.int64)
    input_ids, labels = wide[:, :-1].contiguous(), wide[:, 1:].contiguous()
    rows, seq_len = input_ids.shape
    here = None
    position_ids = None
    if segment_ids is not None:
        segments = segment_ids.to(torch.int64)
        here, after = segments[:, :-1], segments[:, 1:]
        labels = labels.masked_fill((here != after) | (here == 0), IGNORE_INDEX)
        position_ids = _positions(here)
    plan = plan_attention(
        kernel,
        rows=rows,
        seq_len=seq_len,
        device=tokens.device,
        window=window,
        segment_ids=here if isolate else None,
        cu_seqlens=cu_seqlens if isolate else None,
    )
    return DeviceRows(input_ids, labels, position_ids, here, plan)


def _positions(segments: Tensor) -> Tensor:
    """Positions that restart at 0 wherever the segment changes, int64 (rows, seq_len)."""
    columns = torch.arange(segments.shape[1], device=segments.device)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return columns - torch.where(begins, columns, 0).cummax(dim=1).values


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Which rows a rank reads for a step: rows ``step × global …``, this rank's share, in micro-batches."""

    batch_size: int  # rows per micro-batch
    global_batch_size: int  # rows per step, over all ranks
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        each = self.batch_size * self.world_size
        if self.batch_size < 1 or self.global_batch_size % each:
            raise UsageError(
                f"a global batch of {self.global_batch_size} rows does not split over {self.world_size} "
                f"rank(s) in batches of {self.batch_size}; use a multiple of {each}"
            )

    @property
    def micro_batches(self) -> int:
        """Forward passes per step and rank."""
        return self.global_batch_size // (self.batch_size * self.world_size)

    @property
    def rows_per_rank(self) -> int:
        """Rows of a step that this rank reads."""
        return self.global_batch_size // self.world_size

    def global_rows(self, step: int) -> NDArray[np.int64]:
        """Rows of a step over all ranks."""
        return np.arange(step * self.global_batch_size, (step + 1) * self.global_batch_size, dtype=np.int64)

    def rank_rows(self, step: int) -> NDArray[np.int64]:
        """Rows of a step that this rank reads."""
        begin = self.rank * self.rows_per_rank
        return self.global_rows(step)[begin : begin + self.rows_per_rank]


@dataclass(frozen=True, slots=True)
class Widener:
    """Turns rows in the storage dtype into what the model takes, on the run's device."""

    device: torch.device
    kernel: Kernel
    window: int
    isolate: bool

    def __call__(self, batch: Batch) -> DeviceRows:
        """Move one micro-batch over and widen it there."""
        segments = batch.segment_ids
        cu_seqlens = None
        if self.kernel == "varlen" and segments is not None and self.isolate:
            cu_seqlens = torch.from_numpy(padded_cu_seqlens(batch)).to(self.device, non_blocking=True)
        return to_rows(
            torch.from_numpy(batch.tokens).to(self.device, non_blocking=True),
            None if segments is None else torch.from_numpy(segments).to(self.device, non_blocking=True),
            kernel=self.kernel,
            window=self.window,
            isolate=self.isolate,
            cu_seqlens=cu_seqlens,
        )


def padded_cu_seqlens(batch: Batch) -> NDArray[np.int32]:
    """Return `Batch.cu_seqlens` with its end repeated up to a power of two, so that shapes rarely change."""
    bounds = batch.cu_seqlens()
    capacity = 1 << max(6, int(len(bounds) * 1.25).bit_length())
    padded = np.full(capacity + 1, bounds[-1], dtype=np.int32)
    padded[: len(bounds)] = bounds
    return padded
