"""Putting a run together: data, device, model, checkpoint; everything checked before step 0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tokpack.errors import DamagedError
from tokpack.loader import Loader
from tokpack.loader.device import TensorBatch, open_device_loader
from tokpack.plugins import Plugins
from tokpack.protocols import Sampler
from tokpack.train.attention import choose_kernel
from tokpack.train.checkpoint import Checkpoint, compare_identity, load_checkpoint
from tokpack.train.config import Settings
from tokpack.train.corpus import Corpus, open_corpus
from tokpack.train.devices import Compute, check_memory, join, peak_flops
from tokpack.train.folder import RunFolder
from tokpack.train.objective import build_model, check_weights, load_weights, make_loss, parallelise
from tokpack.train.optim import Optimizers
from tokpack.train.progress import Progress
from tokpack.train.resolve import check_ids, complete_settings, identity_of
from tokpack.train.rng import load_rng, seed_everything
from tokpack.train.runs import Run

__all__ = ["open_run"]


def open_run(settings: Settings, plugins: Plugins, *, resume: RunFolder | None = None) -> Run:
    """Check everything that can be checked without training, then build the run.

    ``resume`` is the folder of a run to continue. Nothing is written, and no memory taken, before all checks
    have passed.

    Raises:
        TokpackError: whatever is wrong.
    """
    for name in settings.log.trackers:
        plugins.trackers[name]
    corpus = open_corpus(settings.data, plugins)
    compute = join(settings)
    if resume is not None and compute.rank == 0:
        resume.take()
    try:
        settings = complete_settings(settings, corpus, world_size=compute.world_size, dtype=compute.dtype)
        check_ids(settings, corpus)
        loader, validation = _open_rows(settings, corpus, compute, plugins)
        checkpoint = _matching_checkpoint(settings, loader, resume)
        if not settings.model.factory:
            check_memory(settings, settings.model, compute)
        return _build(settings, plugins, corpus, compute, loader, validation, checkpoint, resume)
    except BaseException:
        if resume is not None:
            resume.release()
        compute.leave()
        raise


def _open_rows(
    settings: Settings, corpus: Corpus, compute: Compute, plugins: Plugins
) -> tuple[Loader[TensorBatch], Sampler | None]:
    """Open the loader of training rows and, if there is to be evaluation, the sampler of validation rows."""
    data = settings.data
    sampler = corpus.open_rows(data, data.train_split, seed=settings.train.seed, plugins=plugins)
    validation = None
    if settings.eval.every:
        # The same rows for every run, whatever its seed, so that losses can be compared.
        validation = corpus.open_rows(data, data.validation_split, seed=0, plugins=plugins)
    loader = open_device_loader(
        sampler,
        device=compute.device,
        batch_size=data.batch_size,
        global_batch_size=data.global_batch_size,
        rank=compute.rank,
        world_size=compute.world_size,
        model_vocab_size=None if settings.model.factory else settings.model.vocab_size,
    )
    return loader, validation


def _matching_checkpoint(
    settings: Settings, loader: Loader[TensorBatch], resume: RunFolder | None
) -> Checkpoint | None:
    """Load the last checkpoint of the run to continue, if it is of this model and this data."""
    if resume is None:
        return None
    checkpoint = load_checkpoint(resume.path)
    compare_identity(checkpoint.state.get("identity", {}), identity_of(settings), where=resume.path)
    loader.load_state_dict(checkpoint.state.get("loader", {}))
    return checkpoint


def _build(
    settings: Settings,
    plugins: Plugins,
    corpus: Corpus,
    compute: Compute,
    loader: Loader[TensorBatch],
    validation: Sampler | None,
    checkpoint: Checkpoint | None,
    resume: RunFolder | None,
) -> Run:
    data, train, segmented = settings.data, settings.train, loader.sampler.segmented
    kernel = choose_kernel(
        train.attention,
        device=compute.device,
        dtype=compute.dtype,
        documents=segmented and data.isolate_documents,
        window=0 < settings.model.sliding_window < data.seq_len,
    )
    tokenizer = corpus.first.open_tokenizer()
    seed_everything(train.seed)
    model = build_model(settings.model, isolate=data.isolate_documents, segmented=segmented)
    if checkpoint is not None:
        check_weights(model, checkpoint.model)
        load_weights(model, checkpoint.model)
    model.to(compute.device)
    tokens = data.batch_size * data.seq_len
    loss = make_loss(model, settings.model, train, tokens=tokens, device=compute.device)
    compiled = train.compile == "on" or (train.compile == "auto" and compute.device.type == "cuda")
    module = parallelise(loss, compute, train, compiled=compiled)
    optimizers = Optimizers(model, settings.optim, fused=train.parallel != "fsdp")
    facts = {
        **corpus.facts(),
        "train_tokens": corpus.tokens(data.train_split),
        "tokens_per_step": data.global_batch_size * data.seq_len,
        **_facts_of_device(compute),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "attention": kernel,
        "compiled": compiled,
        "loss_chunk_tokens": loss.chunk,
    }
    progress = Progress()
    if checkpoint is not None:
        optimizers.load_state_dict(checkpoint.optimizer)
        progress = Progress.from_dict(checkpoint.state.get("progress", {}))
        if progress.step != checkpoint.step:
            raise DamagedError(f"the checkpoint of step {checkpoint.step} says it is of step {progress.step}")
    folder = _open_folder(settings, corpus, compute, facts, resume)
    if data.populate:
        corpus.populate(data.train_split)
    # Last, so that nothing above moves the random state that training begins with.
    seed_everything(train.seed + compute.rank)
    if checkpoint is not None:
        load_rng(checkpoint.rng, compute)
    return Run(
        settings=settings,
        folder=folder,
        compute=compute,
        plugins=plugins,
        corpus=corpus,
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
    settings: Settings, corpus: Corpus, compute: Compute, facts: Mapping[str, Any], resume: RunFolder | None
) -> RunFolder:
    """Make or take the run folder; only rank 0 writes in it."""
    name = f"{corpus.name}-{settings.preset or 'model'}"
    if compute.rank != 0:
        return resume or RunFolder(Path(settings.log.run_dir) / (settings.log.name or name))
    folder = RunFolder.create(settings, name) if resume is None else resume
    folder.write(settings, facts)
    folder.copy_tokenizer(corpus.first.path / "tokenizer")
    return folder
