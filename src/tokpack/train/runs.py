"""Putting a run together: data, device, model, checkpoint; everything checked before step 0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokpack.dataset.store import Dataset, ShardStore, open_dataset
from tokpack.errors import DamagedError
from tokpack.loader import Loader
from tokpack.loader.device import TensorBatch, open_device_loader
from tokpack.plugins import Plugins
from tokpack.protocols import RunInfo, Sampler, SamplerOptions, Tokenizer, Tracker
from tokpack.samplers import open_sampler
from tokpack.train.attention import AttentionPlan, Kernel, choose_kernel, plan_attention
from tokpack.train.checkpoint import Checkpoint, Checkpoints, compare_identity, load_checkpoint
from tokpack.train.config import Settings
from tokpack.train.devices import Compute, check_memory, join, peak_flops
from tokpack.train.folder import RunFolder
from tokpack.train.model import flops_per_token
from tokpack.train.objective import (
    NextTokenLoss,
    build_model,
    check_weights,
    full_tensor,
    load_weights,
    make_loss,
    parallelise,
)
from tokpack.train.optim import Optimizers
from tokpack.train.progress import Progress
from tokpack.train.resolve import check_ids, complete_settings, identity_of, open_split
from tokpack.train.rng import gather_rng, load_rng, seed_everything
from tokpack.train.trackers import Trackers, open_trackers

__all__ = ["Run", "open_run"]


@dataclass(slots=True)
class Run:
    """All that the training loop works with."""

    settings: Settings
    folder: RunFolder
    compute: Compute
    plugins: Plugins
    dataset: Dataset
    store: ShardStore
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
        return 0 if self.sampler.segmented else self.settings.data.global_batch_size * self.sampler.seq_len

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


def open_run(settings: Settings, plugins: Plugins, *, resume: RunFolder | None = None) -> Run:
    """Check everything that can be checked without training, then build the run.

    ``resume`` is the folder of a run to continue. Nothing is written, and no memory taken, before all checks
    have passed.

    Raises:
        TokpackError: whatever is wrong.
    """
    for name in settings.log.trackers:
        plugins.trackers[name]
    dataset = open_dataset(settings.data.dataset, plugins=plugins)
    compute = join(settings)
    if resume is not None and compute.rank == 0:
        resume.take()
    try:
        return _assemble(settings, plugins, dataset, compute, resume)
    except BaseException:
        if resume is not None:
            resume.release()
        compute.leave()
        raise


def _assemble(
    settings: Settings, plugins: Plugins, dataset: Dataset, compute: Compute, resume: RunFolder | None
) -> Run:
    settings = complete_settings(settings, dataset, world_size=compute.world_size, dtype=compute.dtype)
    check_ids(settings, dataset)
    data, train = settings.data, settings.train
    store = open_split(dataset, data.train_split)
    options = SamplerOptions(data.seq_len, seed=train.seed, options=data.sampler_options)
    sampler = open_sampler(data.sampler, store, options, plugins=plugins)
    validation = None
    if settings.eval.every:
        # The same rows for every run, whatever its seed, so that losses can be compared.
        split = open_split(dataset, data.validation_split)
        validation = open_sampler(data.sampler, split, replace(options, seed=0), plugins=plugins)
    loader = open_device_loader(
        sampler,
        device=compute.device,
        batch_size=data.batch_size,
        global_batch_size=data.global_batch_size,
        rank=compute.rank,
        world_size=compute.world_size,
        model_vocab_size=None if settings.model.factory else settings.model.vocab_size,
    )
    kernel = choose_kernel(
        train.attention,
        device=compute.device,
        dtype=compute.dtype,
        documents=sampler.segmented and data.isolate_documents,
        window=0 < settings.model.sliding_window < data.seq_len,
    )
    tokenizer = dataset.open_tokenizer()
    checkpoint = None
    if resume is not None:
        checkpoint = load_checkpoint(resume.path)
        compare_identity(checkpoint.state.get("identity", {}), identity_of(settings), where=resume.path)
        loader.load_state_dict(checkpoint.state.get("loader", {}))
    if not settings.model.factory:
        check_memory(settings, settings.model, compute)

    seed_everything(train.seed)
    model = build_model(settings.model, isolate=data.isolate_documents, segmented=sampler.segmented)
    if checkpoint is not None:
        check_weights(model, checkpoint.model)
        load_weights(model, checkpoint.model)
    model.to(compute.device)
    loss = make_loss(model, settings.model, train, tokens=data.batch_size * data.seq_len)
    compiled = train.compile == "on" or (train.compile == "auto" and compute.device.type == "cuda")
    module = parallelise(loss, compute, train, compiled=compiled)
    optimizers = Optimizers(model, settings.optim, fused=train.parallel != "fsdp")
    progress = Progress()
    if checkpoint is not None:
        optimizers.load_state_dict(checkpoint.optimizer)
        progress = Progress.from_dict(checkpoint.state.get("progress", {}))
        if progress.step != checkpoint.step:
            raise DamagedError(f"the checkpoint of step {checkpoint.step} says it is of step {progress.step}")
    facts = {
        **_facts_of_data(dataset, settings),
        **_facts_of_device(compute),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "attention": kernel,
        "compiled": compiled,
        "loss_chunk_tokens": loss.chunk,
    }
    folder = _open_folder(settings, dataset, compute, facts, resume)
    # Last, so that nothing above moves the random state that training begins with.
    seed_everything(train.seed + compute.rank)
    if checkpoint is not None:
        load_rng(checkpoint.rng, compute)
    return Run(
        settings=settings,
        folder=folder,
        compute=compute,
        plugins=plugins,
        dataset=dataset,
        store=store,
        validation=validation,
        loader=loader,
        kernel=kernel,
        model=model,
        loss=loss,
        module=module,
        optimizers=optimizers,
        tokenizer=tokenizer,
        facts=facts,
        progress=progress,
    )


def _facts_of_data(dataset: Dataset, settings: Settings) -> dict[str, Any]:
    info = dataset.manifest.tokenizer
    return {
        "dataset": str(dataset.path),
        "dataset_digest": dataset.manifest.root_digest,
        "tokenizer": info.reference,
        "tokenizer_fingerprint": info.fingerprint,
        "train_tokens": dataset.manifest.splits[settings.data.train_split].tokens,
        "tokens_per_step": settings.data.global_batch_size * settings.data.seq_len,
    }


def _facts_of_device(compute: Compute) -> dict[str, Any]:
    peak, source = peak_flops(compute)
    return {
        "device": str(compute.device),
        "world_size": compute.world_size,
        "dtype": str(compute.dtype).removeprefix("torch."),
        "peak_flops": peak,
        "peak_flops_source": source,
        "torch": torch.__version__,
    }


def _open_folder(
    settings: Settings, dataset: Dataset, compute: Compute, facts: Mapping[str, Any], resume: RunFolder | None
) -> RunFolder:
    """Make or take the run folder; only rank 0 writes in it."""
    name = f"{dataset.path.resolve().name}-{settings.preset or 'model'}"
    if compute.rank != 0:
        return resume or RunFolder(Path(settings.log.run_dir) / (settings.log.name or name))
    folder = RunFolder.create(settings, name) if resume is None else resume
    folder.write(settings, facts)
    folder.copy_tokenizer(dataset.path / "tokenizer")
    return folder
