"""A sampler's rows as torch's own datasets, for trainers that bring their own loader.

Rows are computed faster than they travel between processes, so ``num_workers=0`` is the fast setting.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from tokpack.batches import IGNORED_LABEL, Batch
from tokpack.errors import MismatchError
from tokpack.loader.device import to_tensors
from tokpack.loader.loader import open_loader
from tokpack.protocols import Sampler
from tokpack.samplers import empty_batch

__all__ = ["RowDataset", "Rows", "StepDataset", "as_tensors", "collate_rows"]


def as_tensors(batch: Batch, *, shift: bool = True) -> dict[str, Tensor]:
    """Return a batch as keyword arguments of a model: int64 ``input_ids`` and ``labels``, and more.

    With ``shift`` labels are the next tokens, (rows, seq_len). Without, for models that shift by themselves
    (those of Hugging Face), the whole window is input and label, (rows, seq_len + 1): open the sampler with
    a ``seq_len`` one below the model's positions. Rows with segments also have ``position_ids`` that restart
    in each segment and, with ``shift``, ``segment_ids``.
    """
    if shift:
        tensors = to_tensors(batch)
        arrays = {"input_ids": tensors.input_ids, "labels": tensors.labels}
        if tensors.position_ids is not None and tensors.segment_ids is not None:
            arrays |= {"position_ids": tensors.position_ids, "segment_ids": tensors.segment_ids}
        return arrays
    labels = np.full(batch.tokens.shape, IGNORED_LABEL, np.int64)  # nothing predicts the first token
    labels[:, 1:] = batch.labels()
    arrays = {
        "input_ids": torch.from_numpy(batch.tokens.astype(np.int64)),
        "labels": torch.from_numpy(labels),
    }
    if batch.segment_ids is not None:
        window = Batch(_one_wider(batch.tokens), _one_wider(batch.segment_ids))
        arrays["position_ids"] = torch.from_numpy(window.position_ids().astype(np.int64))
    return arrays


def _one_wider(array: NDArray[Any]) -> NDArray[Any]:
    """Append a column, so that all the columns before it count as inputs."""
    return np.pad(array, ((0, 0), (0, 1)))


class Rows(Sequence[dict[str, Tensor]]):
    """A batch that passes for a list of rows: any collate function takes it, `collate_rows` at no cost."""

    def __init__(self, batch: dict[str, Tensor]) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch["input_ids"])

    def __getitem__(self, index: Any) -> Any:
        return {name: tensor[index] for name, tensor in self.batch.items()}


def collate_rows(rows: Any) -> dict[str, Tensor]:
    """Return the batch behind `Rows`: the ``collate_fn`` of a loader over a `RowDataset`."""
    batch: dict[str, Tensor] = rows.batch
    return batch


class RowDataset(Dataset[dict[str, Tensor]]):
    """A map-style dataset of as many rows as the sampler's first epoch has.

    ``dataset[i]`` is row ``epoch * len(dataset) + i``; `set_epoch` moves on to other rows, in an order of
    the sampler's own, so a loader need not shuffle. Loaders that fetch whole batches (``__getitems__``)
    should be given ``collate_fn=collate_rows``.
    """

    def __init__(self, sampler: Sampler, *, shift: bool = True) -> None:
        self.sampler = sampler
        self.shift = shift
        self.epoch = 0
        self._rows = max(sampler.rows_before(1), 1)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that rows are taken from; Hugging Face's loaders call this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row: dict[str, Tensor] = self.__getitems__([index])[0]
        return row

    def __getitems__(self, indices: Sequence[int]) -> Rows:
        """Return many rows at once."""
        rows = np.asarray(indices, dtype=np.int64)
        if rows.min() < 0 or rows.max() >= self._rows:
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a dataset of {self._rows:,} rows")
        sampler = self.sampler
        batch = empty_batch(sampler, len(rows))
        sampler.fill(rows + self.epoch * self._rows, batch)
        return Rows(as_tensors(batch, shift=self.shift))


class StepDataset(IterableDataset[dict[str, Tensor]]):
    """An endless iterable dataset of whole batches, one per step: this rank's share of the global batch.

    Give it to a loader with ``batch_size=None``. With worker processes, each makes every so-many-th step, so
    the order stays that of the steps. ``state_dict`` is the loader's own (`Loader.state_dict`), and
    torchdata's ``StatefulDataLoader`` saves and restores it for every worker.
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        global_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        shift: bool = True,
    ) -> None:
        self.shift = shift
        self._loader = open_loader(
            sampler,
            batch_size=max(global_batch_size // world_size, 1),
            global_batch_size=global_batch_size,
            rank=rank,
            world_size=world_size,
            prefetch=0,
        )
        self._step = 0
        self._workers: int | None = None  # of the process whose state this goes on from, if it was a worker

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        if self._workers not in (None, workers):
            raise MismatchError(
                f"this state is of a loader with {self._workers} workers, which this one has {workers} of; "
                f"resume with num_workers={self._workers}"
            )
        # A worker's own state says where that worker goes on, any other where all of them do.
        first = self._step if self._workers else self._step + worker
        self._workers = workers if info else None
        for step in itertools.count(first, workers):
            self._loader.seek(step)
            batch = next(self._loader)
            self._step = step + workers
            yield as_tensors(batch, shift=self.shift)

    def state_dict(self) -> dict[str, str | int]:
        """Return where to go on after the last batch."""
        state = self._loader.state_dict() | {"step": self._step}
        return state if self._workers is None else state | {"workers": self._workers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; raises what `Loader.load_state_dict` does."""
        self._loader.load_state_dict({name: state[name] for name in state if name != "workers"})
        self._step = int(state["step"])
        self._workers = state.get("workers")
