"""A run: all that the training loop works with, and the questions it asks of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokpack.loader import Loader
from tokpack.loader.device import TensorBatch
from tokpack.plugins import Plugins
from tokpack.protocols import RunInfo, Sampler, Tokenizer, Tracker
from tokpack.train.attention import AttentionPlan, Kernel, plan_attention
from tokpack.train.checkpoint import Checkpoint, Checkpoints
from tokpack.train.config import Settings
from tokpack.train.corpus import Corpus
from tokpack.train.devices import Compute
from tokpack.train.folder import RunFolder
from tokpack.train.objective import NextTokenLoss, build_model, full_tensor, load_weights
from tokpack.train.optim import Optimizers
from tokpack.train.progress import Progress
from tokpack.train.resolve import identity_of
from tokpack.train.rng import gather_rng
from tokpack.train.shape import flops_per_token
from tokpack.train.trackers import Trackers, open_trackers

__all__ = ["Run"]


@dataclass(slots=True)
class Run:
    """All that the training loop works with."""

    settings: Settings
    folder: RunFolder
    compute: Compute
    plugins: Plugins
    corpus: Corpus
    validation: Sampler | None
    loader: Loader[TensorBatch]
    kernel: Kernel
    model: nn.Module  # the plain model, for saving and generating
    loss: NextTokenLoss
    module: nn.Module  # what the loop calls: the loss, compiled and spread over ranks
    optimizers: Optimizers
    tokenizer: Tokenizer
    facts: Mapping[str, Any]
    progress: Progress
    abandoned: bool = False  # the data thread may hang: end without waiting for it

    @property
    def sampler(self) -> Sampler:
        """The sampler of the training rows."""
        return self.loader.sampler

    @property
    def sharded(self) -> bool:
        """Whether weights are spread over the ranks (FSDP2)."""
        return self.settings.train.parallel == "fsdp" and self.compute.world_size > 1

    @property
    def fixed_valid(self) -> int:
        """Labels that count in each global batch, where that is the same for all of them; else 0."""
        if self.sampler.segmented or self.sampler.masked:
            return 0
        return self.settings.data.global_batch_size * self.sampler.seq_len

    @property
    def flops_per_token(self) -> int:
        """Operations to train on one token; a foreign model's attention is not counted."""
        if self.settings.model.factory:
            return 6 * int(self.facts["parameters"])
        return flops_per_token(self.settings.model, self.settings.data.seq_len)

    @property
    def export_path(self) -> Path:
        """Where `checkpoint.export` goes: below the run folder unless it is absolute."""
        return self.folder.path / self.settings.checkpoint.export

    def plan(self, batch: TensorBatch) -> AttentionPlan:
        """Work out which positions of a batch see each other."""
        isolate = self.settings.data.isolate_documents
        rows, seq_len = batch.input_ids.shape
        return plan_attention(
            self.kernel,
            rows=rows,
            seq_len=seq_len,
            device=batch.input_ids.device,
            window=self.settings.model.sliding_window,
            segment_ids=batch.segment_ids if isolate else None,
            cu_seqlens=batch.cu_seqlens if isolate else None,
        )

    def snapshot(self) -> Checkpoint:
        """Return everything to continue from. Under several ranks each of them must ask."""
        optimizer = {name: full_tensor(tensor) for name, tensor in self.optimizers.state_dict().items()}
        state = {
            "progress": self.progress.to_dict(),
            "identity": identity_of(self.settings),
            "loader": self.loader.state_dict() | {"step": self.progress.step},
        }
        return Checkpoint(self.progress.step, self.weights(), optimizer, gather_rng(self.compute), state)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights, whole. Under several ranks each of them must ask."""
        return {name: full_tensor(tensor) for name, tensor in self.model.state_dict().items()}

    def whole_model(self) -> nn.Module | None:
        """Return the model with whole weights, None on ranks other than 0. Each rank must ask."""
        if not self.sharded:
            return self.model if self.compute.rank == 0 else None
        weights = self.weights()
        if self.compute.rank != 0:
            return None
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced at once
            model = build_model(self.settings.model, isolate=False, segmented=False)
        load_weights(model, weights)
        return model.to(self.compute.device)

    def open_checkpoints(self) -> Checkpoints:
        """Open the place where checkpoints go."""
        config = self.settings.checkpoint
        directory = self.folder.path / "checkpoints"
        return Checkpoints(
            directory, keep=config.keep, background=config.background, writes=self.compute.rank == 0
        )

    def open_trackers(self, also: Iterable[Tracker] = ()) -> Trackers:
        """Open the trackers; ranks other than 0 have none."""
        info = RunInfo(
            name=self.folder.path.name,
            directory=self.folder.path,
            settings=self.settings.to_dict(),
            facts=self.facts,
            step=self.progress.step,
            max_iters=self.settings.train.max_iters,
        )
        if self.compute.rank != 0:
            return Trackers([])
        return Trackers([*open_trackers(self.settings.log.trackers, info, self.plugins), *also])

    def close(self) -> None:
        """Let go of the folder and of the other processes."""
        if not self.abandoned:
            self.loader.close()
        self.folder.release()
        self.compute.leave()
