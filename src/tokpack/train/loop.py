"""The training loop, from top to bottom.

Each turn does what is due at the step that was reached (evaluate, sample, save), then makes one more step.
What was done is part of the saved state, so that a run which is stopped anywhere, even between evaluation
and saving, continues as if it had not been.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokpack.errors import DamagedError, UsageError
from tokpack.loader.device import TensorBatch
from tokpack.protocols import Tracker
from tokpack.train.checkpoint import export_weights
from tokpack.train.corpus import epochs_seen
from tokpack.train.evaluate import evaluate, sample_text
from tokpack.train.loss import IGNORE_INDEX
from tokpack.train.meter import LossWatch, Speed
from tokpack.train.objective import gradients_travel
from tokpack.train.optim import clip_gradients
from tokpack.train.provenance import describe_rows
from tokpack.train.runs import Run
from tokpack.train.schedule import learning_rate
from tokpack.train.signals import StopRequest, StopWaiting

__all__ = ["Outcome", "train"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. ``stopped_by`` names a signal or "patience"; "" when all steps were made."""

    step: int
    loss: float
    best_loss: float | None
    stopped_by: str


def train(run: Run, stop: StopRequest, *, also: Sequence[Tracker] = ()) -> Outcome:
    """Train until ``max_iters``, until patience ends, or until ``stop`` is asked for.

    However it ends, the last thing that happens is a complete checkpoint, unless the losses went bad: then
    the last good one stays as it is. ``also`` are trackers beside those that the settings name.

    Raises:
        DamagedError: the loss was not finite for ``train.stop_after_bad_steps`` steps in a row.
        StorageError: a checkpoint could not be written.
        UsageError: the device ran out of memory.
    """
    settings, compute, progress, loader = run.settings, run.compute, run.progress, run.loader
    max_iters, world = settings.train.max_iters, compute.world_size
    tokens_per_step = settings.data.global_batch_size * settings.data.seq_len
    trackers, checkpoints = run.open_trackers(also), run.open_checkpoints()
    speed = Speed(
        flops_per_token=run.flops_per_token,
        peak=float(run.facts["peak_flops"]) * world,
        device=compute.device,
    )
    watch = LossWatch(settings.train.spike_sigmas, progress.recent_losses)
    pending: list[tuple[Tensor, Tensor]] = []  # losses and norms of steps, still on the device
    loss, lr, stopped_by, step, last, first = math.nan, 0.0, "", 0, False, True
    began = time.perf_counter() - progress.seconds
    run.module.train()

    def should_stop() -> bool:
        return compute.agree(bool(stop))

    def due(every: int, done: int) -> bool:
        """Whether something is to be done at the present step, and was not."""
        return every > 0 and step > 0 and done != step and (last or step % every == 0)

    def report() -> None:
        """Read the losses of the steps since the last report: the only place that waits for the device."""
        nonlocal loss
        if not pending:
            return
        losses, norms = (torch.stack(column) for column in zip(*pending, strict=True))
        means, lengths = torch.stack([compute.sum(losses) / world, norms]).tolist()
        numbers = speed.report()
        for made, (loss, norm) in enumerate(zip(means, lengths, strict=True), progress.step - len(means)):
            if wrong := watch.see(loss, norm):
                where = describe_rows(run.sampler, loader.share, made)
                trackers.text(made + 1, "note", f"step {made + 1}: {wrong}; {where}")
        pending.clear()
        progress.recent_losses, progress.seconds = list(watch.recent), time.perf_counter() - began
        numbers |= {"loss": loss, "lr": lr, "grad_norm": lengths[-1], "tokens": float(progress.tokens)}
        numbers |= epochs_seen(run.sampler, progress.step * loader.share.global_batch_size)
        trackers.log(progress.step, numbers | {"time_s": progress.seconds})
        if watch.bad_in_a_row >= settings.train.stop_after_bad_steps:
            raise DamagedError(
                f"the loss was not finite for {watch.bad_in_a_row} steps in a row, up to step "
                f"{progress.step}; checkpoints up to step {progress.saved} are untouched. "
                f"Lower optim.lr, or look at the documents named in {run.folder.path / 'metrics.jsonl'}"
            )

    try:
        while True:
            step, last = progress.step, progress.step >= max_iters
            if should_stop():
                stopped_by = stop.reason or "another rank"

            if not stopped_by and due(settings.eval.every, progress.evaluated):
                report()
                if found := evaluate(run, should_stop=should_stop):
                    trackers.log(step, found)
                    progress.count_evaluation(found["validation_loss"])
                    if 0 < settings.eval.patience <= progress.evaluations_without_gain:
                        stopped_by = "patience"
                else:
                    stopped_by = stop.reason or "another rank"
                speed.restart()

            if not stopped_by and due(settings.sample.every, progress.sampled):
                report()
                if (text := sample_text(run, should_stop=lambda: bool(stop))) is not None:
                    trackers.text(step, "sample", text)
                    progress.count_sample()
                speed.restart()

            ending = last or bool(stopped_by)
            best = progress.best_step == step
            if due(settings.checkpoint.every, progress.saved) or (
                progress.saved != step and (best or ending)
            ):
                report()
                if not watch.bad_in_a_row:
                    progress.saved = step
                    snapshot = run.snapshot()  # every rank takes part, one of them writes
                    if compute.rank == 0:
                        checkpoints.save(snapshot, best=best)
                        if settings.checkpoint.export and (best or (last and run.validation is None)):
                            export_weights(snapshot.model, run.export_path)
                speed.restart()
            if ending:
                break

            try:
                with speed.waiting(), stop.interruptible(world == 1):
                    batches = [next(loader) for _ in range(loader.share.micro_batches)]
                valid = run.fixed_valid or compute.sum(count_valid(batches))
                lr = learning_rate(
                    step, peak=settings.optim.lr, max_iters=max_iters, config=settings.schedule
                )
                run.optimizers.set_lr(lr)
                total = torch.zeros((), device=compute.device)
                # The first step compiles, which can take a minute: nothing is lost if it is broken off.
                with stop.interruptible(first and world == 1):
                    for index, batch in enumerate(batches, start=1):
                        gradients_travel(run.module, index == len(batches))
                        with compute.autocast():
                            # DDP and FSDP take the mean over ranks; what counts is the sum.
                            part = run.module(*run.loss.of(batch, run.plan(batch))) * (world / valid)
                        part.backward()
                        total += part.detach()
            except StopWaiting:
                run.abandoned = True  # whatever the data thread hangs on, it is not waited for
                run.optimizers.zero_grad()
                continue
            norm = clip_gradients(run.optimizers.parameters, settings.optim.clip)
            run.optimizers.step(torch.isfinite(norm))
            run.optimizers.zero_grad()
            pending.append((total, norm))
            progress.step, progress.tokens = step + 1, progress.tokens + tokens_per_step
            speed.count(tokens_per_step)
            if first:
                first = False
                _settle(settings.train.control_gc)
            if progress.step % settings.log.every == 0:
                report()
                if settings.train.control_gc:
                    gc.collect(1)
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"{compute.device} ran out of memory at step {progress.step}; use a smaller --batch-size with "
            f"--set data.global_batch_size={settings.data.global_batch_size}, or "
            "--set train.activation_checkpointing=true"
        ) from error
    finally:
        gc.enable()
        gc.unfreeze()
        try:
            checkpoints.close()
        finally:
            trackers.close()
    return Outcome(progress.step, loss, progress.best_loss, stopped_by)


def count_valid(batches: list[TensorBatch]) -> Tensor:
    """Labels that count, over the micro-batches of one rank: int64 scalar on the device, at least 1."""
    counts = [(batch.labels != IGNORE_INDEX).sum() for batch in batches]
    return torch.stack(counts).sum().clamp_min(1)


def _settle(control_gc: bool) -> None:
    """Take what the first step left behind out of the garbage collector's sight, and run it by hand."""
    if control_gc:
        gc.collect()
        gc.freeze()
        gc.disable()
