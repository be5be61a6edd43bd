"""The device half of the loader: pinned memory, one small copy, and widening where the model runs.

Tokens travel in their storage dtype, a quarter of what int64 would take, and inputs and labels travel as one
window. On CUDA a slot's memory is pinned and the copy does not block; an event per slot tells the prefetch
thread when the copy has been made, and only then is the slot filled again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tokpack.batches import IGNORED_LABEL, Batch
from tokpack.loader.loader import Loader, Slot
from tokpack.loader.share import Share
from tokpack.protocols import Sampler
from tokpack.samplers import empty_batch

__all__ = ["TensorBatch", "open_device_loader", "to_tensors"]


class TensorBatch(NamedTuple):
    """What a model takes, on its device.

    Labels that a loss mask leaves out are -100 already. The last four fields are there only where rows have
    segments. Segments count from 1 in each row, 0 is padding; positions restart in each segment.
    ``cu_seqlens`` are the bounds of all segments in the flattened inputs, repeated at the end up to a power
    of two of entries, so that few shapes occur; ``max_seqlen`` is the length of the longest.
    """

    input_ids: Tensor  # int64 (rows, seq_len)
    labels: Tensor  # int64 (rows, seq_len); -100 where no loss is due
    segment_ids: Tensor | None = None  # int32 (rows, seq_len)
    position_ids: Tensor | None = None  # int64 (rows, seq_len)
    cu_seqlens: Tensor | None = None  # int32 (a power of two)
    max_seqlen: int | None = None


def open_device_loader(
    sampler: Sampler,
    *,
    device: torch.device | str,
    batch_size: int,
    global_batch_size: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    prefetch: int = 2,
    model_vocab_size: int | None = None,
) -> Loader[TensorBatch]:
    """Open a loader of tensors on ``device``; the parameters are those of `tokpack.loader.open_loader`.

    Tensors handed out are the consumer's own: nothing writes to them later.
    """
    target = torch.device(device)

    def new_slot(rows: int, opened: Sampler) -> Slot[TensorBatch]:
        return (
            _PinnedSlot(rows, opened, target) if target.type == "cuda" else _CopiedSlot(rows, opened, target)
        )

    share = Share(global_batch_size or batch_size * world_size, batch_size, rank, world_size)
    return Loader(sampler, share, new_slot=new_slot, prefetch=prefetch, model_vocab_size=model_vocab_size)


def to_tensors(batch: Batch, device: torch.device | str = "cpu") -> TensorBatch:
    """Return the batch in a model's form, in memory of its own."""
    input_ids = torch.from_numpy(batch.input_ids.astype(np.int64)).to(device)
    labels = torch.from_numpy(batch.labels()).to(device)
    if batch.segment_ids is None:
        return TensorBatch(input_ids, labels)
    bounds = batch.cu_seqlens()
    return TensorBatch(
        input_ids,
        labels,
        torch.from_numpy(batch.segment_ids[:, :-1].astype(np.int32)).to(device),
        torch.from_numpy(batch.position_ids().astype(np.int64)).to(device),
        torch.from_numpy(_padded(bounds, np.empty(_room(bounds), np.int32))).to(device),
        int(np.diff(bounds).max()),
    )


class _CopiedSlot:
    """A slot in ordinary memory, for the CPU and for devices without pinned memory."""

    def __init__(self, rows: int, sampler: Sampler, device: torch.device) -> None:
        self.batch = empty_batch(sampler, rows)
        self._device = device
        self._tensors: TensorBatch | None = None

    def wait(self) -> None:
        """The tensors are copies: nobody reads this memory."""

    def prepare(self) -> None:
        """Widen in the prefetch thread."""
        self._tensors = to_tensors(self.batch, self._device)

    def hand_out(self) -> TensorBatch:
        """Return the tensors."""
        assert self._tensors is not None
        return self._tensors


class _PinnedSlot:
    """A slot in pinned memory, copied to a CUDA device without blocking."""

    def __init__(self, rows: int, sampler: Sampler, device: torch.device) -> None:
        self._device = device
        self._copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        shape = (rows, sampler.seq_len + 1)
        # torch computes little with unsigned integers, so the bits travel under the signed name.
        signed = torch.int16 if sampler.dtype.itemsize == 2 else torch.int32
        self._tokens = torch.empty(shape, dtype=signed, pin_memory=True)
        self._segment_ids = self._bounds = self._mask = None
        if sampler.masked:
            self._mask = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        if sampler.segmented:
            self._segment_ids = torch.empty(shape, dtype=torch.int16, pin_memory=True)
            self._bounds = torch.empty(2 * rows * sampler.seq_len, dtype=torch.int32, pin_memory=True)
        self.batch = Batch(
            self._tokens.numpy().view(sampler.dtype),
            None if self._segment_ids is None else self._segment_ids.numpy().view(np.uint16),
            None if self._mask is None else self._mask.numpy(),
        )
        self._bound_count = self._max_seqlen = 0

    def wait(self) -> None:
        """Return once the copy of the batch before has been made."""
        self._copied.synchronize()

    def prepare(self) -> None:
        """Find the segments' bounds in the prefetch thread."""
        if self._bounds is not None:
            bounds = self.batch.cu_seqlens()
            self._bound_count = _room(bounds)
            _padded(bounds, self._bounds.numpy()[: self._bound_count])
            self._max_seqlen = int(np.diff(bounds).max())

    def hand_out(self) -> TensorBatch:
        """Copy to the device and widen there; the host does not wait for either."""
        with torch.cuda.device(self._device):
            tokens = self._tokens.to(self._device, non_blocking=True)
            segments = bounds = mask = None
            if self._mask is not None:
                mask = self._mask.to(self._device, non_blocking=True)
            if self._segment_ids is not None and self._bounds is not None:
                segments = self._segment_ids.to(self._device, non_blocking=True)
                bounds = self._bounds[: self._bound_count].to(self._device, non_blocking=True)
            self._copied.record(torch.cuda.current_stream(self._device))
        wide = None if segments is None else _widened(segments)
        return _derived(_widened(tokens), wide, mask, bounds, self._max_seqlen)


def _widened(values: Tensor) -> Tensor:
    """Read the bits of a signed tensor as unsigned numbers, int64."""
    mask = 0xFFFF if values.dtype == torch.int16 else 0xFFFFFFFF
    return values.to(torch.int64) & mask


def _derived(
    tokens: Tensor, segments: Tensor | None, mask: Tensor | None, bounds: Tensor | None, max_seqlen: int
) -> TensorBatch:
    """Derive on the device what `Batch` derives on the host, from (rows, seq_len + 1) of each."""
    input_ids, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    if mask is not None:
        labels = labels.masked_fill(mask[:, 1:] == 0, IGNORED_LABEL)
    if segments is None:
        return TensorBatch(input_ids, labels)
    here, after = segments[:, :-1], segments[:, 1:]
    labels = labels.masked_fill((here != after) | (here == 0), IGNORED_LABEL)
    columns = torch.arange(here.shape[1], device=tokens.device).expand_as(here)
    begins = torch.ones_like(here, dtype=torch.bool)
    begins[:, 1:] = here[:, 1:] != here[:, :-1]
    positions = columns - torch.where(begins, columns, 0).cummax(dim=1).values
    return TensorBatch(input_ids, labels, here.to(torch.int32), positions, bounds, max_seqlen)


def _room(bounds: np.ndarray[Any, np.dtype[np.int32]]) -> int:
    """Return the power of two that has room for the bounds."""
    return 1 << (len(bounds) - 1).bit_length()


def _padded(
    bounds: np.ndarray[Any, np.dtype[np.int32]], out: np.ndarray[Any, np.dtype[np.int32]]
) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Fill ``out`` with the bounds and then with the last of them: segments without tokens."""
    out[: len(bounds)] = bounds
    out[len(bounds) :] = bounds[-1]
    return out
