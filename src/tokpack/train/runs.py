"""Putting a run together: settings, data, device, model, checkpoint; everything checked before step 0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokpack.dataset.store import Dataset, ShardStore, open_dataset
from tokpack.errors import MismatchError, UsageError
from tokpack.plugins import Plugins
from tokpack.protocols import RunInfo, Sampler, SamplerOptions, Tokenizer
from tokpack.samplers import open_sampler
from tokpack.train.attention import Kernel, choose_kernel
from tokpack.train.checkpoint import Checkpoint, Checkpoints, compare_identity, load_checkpoint
from tokpack.train.config import Settings, merge, settings_from
from tokpack.train.data import RowPlan, Widener
from tokpack.train.devices import Compute, check_memory, join, peak_flops
from tokpack.train.folder import RunFolder
from tokpack.train.model import complete, flops_per_token
from tokpack.train.objective import (
    NextTokenLoss,
    build_model,
    full_tensor,
    load_weights,
    make_loss,
    parallelise,
)
from tokpack.train.optim import Optimizers
from tokpack.train.presets import preset_values
from tokpack.train.rng import gather_rng, load_rng, seed_everything
from tokpack.train.trackers import Trackers, open_trackers

__all__ = ["Progress", "Run", "open_run", "resolve"]

_EVERY = 250  # steps between evaluations, and checkpoints, unless said otherwise


@dataclass(slots=True)
class Progress:
    """Where a run stands: plain numbers, saved with every checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    evaluated: int = -1  # the last step after which each of these was done
    sampled: int = -1
    saved: int = -1
    best_loss: float | None = None
    best_step: int = -1
    evaluations_without_gain: int = 0
    recent_losses: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Run:
    """All that the training loop works with."""

    settings: Settings
    folder: RunFolder
    compute: Compute
    plugins: Plugins
    dataset: Dataset
    sampler: Sampler
    validation: Sampler | None
    rows: RowPlan
    widen: Widener
    model: nn.Module  # the plain model, for saving and generating
    loss: NextTokenLoss
    module: nn.Module  # what the loop calls: the loss, compiled and spread over ranks
    optimizers: Optimizers
    tokenizer: Tokenizer
    identity: Mapping[str, Any]
    facts: Mapping[str, Any]
    progress: Progress
    flops_per_token: int
    peak: float

    def snapshot(self) -> Checkpoint:
        """Return everything to continue from. Under several ranks each of them must ask."""
        model = {name: full_tensor(tensor) for name, tensor in self.model.state_dict().items()}
        optimizer = {name: full_tensor(tensor) for name, tensor in self.optimizers.state_dict().items()}
        state = {"progress": asdict(self.progress), "identity": dict(self.identity)}
        return Checkpoint(self.progress.step, model, optimizer, gather_rng(self.compute), state)

    def open_checkpoints(self) -> Checkpoints:
        """Open the place where checkpoints go."""
        config = self.settings.checkpoint
        return Checkpoints(self.folder.path / "checkpoints", keep=config.keep, background=config.background)

    def open_trackers(self) -> Trackers:
        """Open the trackers; ranks other than 0 have none."""
        info = RunInfo(
            name=self.folder.path.name,
            directory=self.folder.path,
            settings=self.settings.to_dict(),
            facts=self.facts,
            step=self.progress.step,
            max_iters=self.settings.train.max_iters,
        )
        names = self.settings.log.trackers if self.compute.rank == 0 else ()
        return open_trackers(names, info, self.plugins)

    def weights(self) -> Mapping[str, Tensor]:
        """Return the weights, whole."""
        return {name: full_tensor(tensor) for name, tensor in self.model.state_dict().items()}


def resolve(layers: Iterable[Mapping[str, Any]], *, origin: str = "the settings") -> Settings:
    """Merge layers of settings over the preset that they name.

    Without a preset and a model of their own the device decides: `tiny` for a CPU, `small` for CUDA.
    """
    values = merge(*layers)
    preset = str(values.get("preset", ""))
    if not preset and "model" not in values:
        device = str(values.get("train", {}).get("device", "auto"))
        on_cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
        preset = "small" if on_cuda else "tiny"
    base = preset_values(preset) if preset else {}
    return settings_from(merge(base, values), origin=origin)


def open_run(settings: Settings, plugins: Plugins, *, resume: RunFolder | None = None) -> Run:
    """Check everything that can be checked without training, then build the run.

    Raises:
        TokpackError: whatever is wrong, before memory is taken and before a folder is made.
    """
    dataset = open_dataset(settings.data.dataset, plugins=plugins)
    train_store = _store(dataset, settings.data.train_split)
    settings = _decide_evaluation(settings, dataset)
    options = SamplerOptions(
        settings.data.seq_len, seed=settings.train.seed, options=settings.data.sampler_options
    )
    sampler = open_sampler(settings.data.sampler, train_store, options, plugins=plugins)
    validation = None
    if settings.eval.every:
        store = _store(dataset, settings.data.validation_split)
        # The same rows for every run, whatever its seed, so that losses can be compared.
        validation = open_sampler(settings.data.sampler, store, replace(options, seed=0), plugins=plugins)
    compute = join(settings)
    settings = _complete(settings, dataset, compute)
    _check_ids(settings, dataset)
    rows = RowPlan(
        settings.data.batch_size, settings.data.global_batch_size, compute.rank, compute.world_size
    )
    check_memory(settings, settings.model, compute)
    identity = _identity(settings, sampler)
    checkpoint = None
    if resume is not None:
        checkpoint = load_checkpoint(resume.path)
        compare_identity(checkpoint.state.get("identity", {}), identity, where=resume.path)
    return _build(settings, plugins, dataset, sampler, validation, compute, rows, identity, checkpoint, resume)


def _store(dataset: Dataset, split: str) -> ShardStore:
    """Open a split, having looked at every file of it."""
    store = dataset[split]
    for shard in dataset.manifest.splits[split].shards:
        for info in shard.files:
            dataset.check_file(info)
    return store


def _decide_evaluation(settings: Settings, dataset: Dataset) -> Settings:
    every = settings.eval.every
    if every < 0:
        every = _EVERY if settings.data.validation_split in dataset else 0
    return replace(settings, eval=replace(settings.eval, every=every))


def _complete(settings: Settings, dataset: Dataset, compute: Compute) -> Settings:
    """Fill in every number that was left to be worked out."""
    data = settings.data
    return replace(
        settings,
        model=complete(
            settings.model, vocab_size=dataset.manifest.tokenizer.vocab_size, seq_len=data.seq_len
        ),
        data=replace(
            data, global_batch_size=data.global_batch_size or data.batch_size * compute.world_size
        ),
        checkpoint=replace(
            settings.checkpoint, every=settings.checkpoint.every or settings.eval.every or _EVERY
        ),
        sample=replace(
            settings.sample,
            every=settings.sample.every
            if settings.sample.every >= 0
            else settings.checkpoint.every or settings.eval.every or _EVERY,
        ),
    )


def _check_ids(settings: Settings, dataset: Dataset) -> None:
    """An id beyond the embedding would be an unreadable fault on the device; here it is a sentence."""
    model = settings.model
    if model.seq_len < settings.data.seq_len:
        raise UsageError(
            f"data.seq_len is {settings.data.seq_len:,}, but the model takes at most model.seq_len = "
            f"{model.seq_len:,} tokens; change one of them"
        )
    for name, split in dataset.manifest.splits.items():
        top = max((shard.max_id for shard in split.shards if shard.max_id is not None), default=0)
        if top >= model.vocab_size:
            raise UsageError(
                f"{dataset.path} has token id {top:,} in split {name!r}, but the model's vocabulary is "
                f"{model.vocab_size:,}; set model.vocab_size to at least {top + 1:,}, or 0"
            )


def _identity(settings: Settings, sampler: Sampler) -> dict[str, Any]:
    """What must be equal for a checkpoint to be continued."""
    shape = {f"model.{key}": value for key, value in settings.to_dict()["model"].items()}
    order = {f"data.{key}": value for key, value in sampler.identity.items()}
    return {
        **shape,
        **order,
        "data.global_batch_size": settings.data.global_batch_size,
        "optim.name": settings.optim.name,
    }


def _build(
    settings: Settings,
    plugins: Plugins,
    dataset: Dataset,
    sampler: Sampler,
    validation: Sampler | None,
    compute: Compute,
    rows: RowPlan,
    identity: Mapping[str, Any],
    checkpoint: Checkpoint | None,
    resume: RunFolder | None,
) -> Run:
    train, data = settings.train, settings.data
    kernel = choose_kernel(
        train.attention,
        device=compute.device,
        dtype=compute.dtype,
        documents=sampler.segmented and data.isolate_documents,
        window=0 < settings.model.sliding_window < data.seq_len,
    )
    compiled = train.compile == "on" or (train.compile == "auto" and compute.device.type == "cuda")
    tokenizer = dataset.open_tokenizer()
    seed_everything(train.seed)
    model = build_model(settings.model, isolate=data.isolate_documents, segmented=sampler.segmented)
    if checkpoint is not None:
        _load_model(model, checkpoint, resume)
    model.to(compute.device)
    loss = make_loss(model, settings.model, train, tokens=data.batch_size * data.seq_len)
    module = parallelise(loss, compute, train, compiled=compiled)
    optimizers = Optimizers(model, settings.optim, fused=train.parallel != "fsdp")
    progress = Progress()
    if checkpoint is not None:
        optimizers.load_state_dict(checkpoint.optimizer)
        progress = Progress(**checkpoint.state["progress"])
    peak, peak_source = peak_flops(compute)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    facts = {
        "dataset": str(dataset.path),
        "dataset_digest": dataset.manifest.root_digest,
        "tokenizer": dataset.manifest.tokenizer.reference,
        "tokenizer_fingerprint": dataset.manifest.tokenizer.fingerprint,
        "tokens_in_split": len(dataset[data.train_split]),
        "tokens_per_step": data.global_batch_size * data.seq_len,
        "parameters": parameters,
        "device": str(compute.device),
        "world_size": compute.world_size,
        "dtype": str(compute.dtype).removeprefix("torch."),
        "attention": kernel,
        "compiled": compiled,
        "loss_chunk_tokens": loss.chunk,
        "peak_flops": peak,
        "peak_flops_source": peak_source,
        "torch": torch.__version__,
    }
    folder = _folder(settings, dataset, compute, facts, resume)
    # Last, so that nothing above moves the random state that training starts from.
    seed_everything(train.seed + compute.rank)
    if checkpoint is not None:
        load_rng(checkpoint.rng, compute)
    window = settings.model.sliding_window
    return Run(
        settings=settings,
        folder=folder,
        compute=compute,
        plugins=plugins,
        dataset=dataset,
        sampler=sampler,
        validation=validation,
        rows=rows,
        widen=Widener(compute.device, kernel, window, data.isolate_documents),
        model=model,
        loss=loss,
        module=module,
        optimizers=optimizers,
        tokenizer=tokenizer,
        identity=identity,
        facts=facts,
        progress=progress,
        flops_per_token=flops_per_token(settings.model, data.seq_len)
        if not settings.model.factory
        else 6 * parameters,
        peak=peak,
    )
