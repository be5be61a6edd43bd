"""`tokpack train`: from a dataset to a model, resumable at any moment."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokpack.cli.console import format_count, format_seconds, stderr
from tokpack.cli.live import format_epochs
from tokpack.errors import UsageError
from tokpack.plugins import discover
from tokpack.train.signals import StopRequest

if TYPE_CHECKING:
    from tokpack.train.loop import Outcome
    from tokpack.train.runs import Run

__all__ = ["require_torch", "train"]

_DATA, _MODEL, _LOOP, _RUN = "Data", "Model and optimizer", "Loop", "Run"


def train(
    dataset: Annotated[
        str | None,
        typer.Argument(help="Folder of the dataset. Default: ./tokenized.", show_default=False),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=WEIGHT",
            help="A dataset and its share of the rows; give it several times to mix several.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="Rule that cuts rows: random-block, sliding-window, packed, …", rich_help_panel=_DATA
        ),
    ] = None,
    sampler_option: Annotated[
        list[str] | None,
        typer.Option(help="Option of the sampler, as NAME=VALUE.", rich_help_panel=_DATA),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows per device and forward pass.", rich_help_panel=_DATA)
    ] = None,
    seq_len: Annotated[int | None, typer.Option(help="Tokens per row.", rich_help_panel=_DATA)] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A model by name: tiny, small, gpt2-124m, gpt2-350m, gpt2-1558m, llama-150m, gemma3-270m, … "
            "Default: tiny on a CPU, small on a GPU.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", "--lr", help="Peak rate.", rich_help_panel=_MODEL)
    ] = None,
    max_iters: Annotated[int | None, typer.Option(help="Optimizer steps.", rich_help_panel=_LOOP)] = None,
    eval_every: Annotated[
        int | None,
        typer.Option(help="Steps between evaluations; 0: never.", rich_help_panel=_LOOP),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights, order of the data, and samples.", rich_help_panel=_LOOP)
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …", rich_help_panel=_LOOP)] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Of activations: bfloat16 or float32.", rich_help_panel=_LOOP)
    ] = None,
    compile_model: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Use torch.compile. Default: on a GPU.",
            show_default=False,
            rich_help_panel=_LOOP,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run folder below runs/.", rich_help_panel=_RUN)
    ] = None,
    tracker: Annotated[
        list[str] | None,
        typer.Option(
            help="A further place for metrics: tensorboard, wandb, … Files are always written.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file with settings.", rich_help_panel=_RUN)
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, as SECTION.KEY=VALUE: optim.lr=3e-4.", rich_help_panel=_RUN),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue the run in this folder.", rich_help_panel=_RUN)
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but errors.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Train a language model on a dataset.

    Everything lands in `runs/NAME/`: settings, metrics, samples, checkpoints, tokenizer. Stopped by Ctrl-C or
    SIGTERM it saves first; `--resume runs/NAME` continues bit for bit. Several GPUs: start it by `torchrun`.

    Examples:

    `tokpack train --sampler random-block`

    `tokpack train --data ./web=0.7 --data ./code=0.3`

    `tokpack train --preset gpt2-124m --set optim.name=muon --set schedule.name=wsd --max-iters 20000`

    `tokpack train --resume runs/tokenized-tiny --max-iters 5000`
    """
    with StopRequest() as stop:  # before torch is imported, which takes seconds
        require_torch()
        from tokpack.train.corpus import parse_mixture

        flags = {
            "preset": preset,
            "data.dataset": dataset,
            "data.mixture": parse_mixture(data, instead_of=dataset) if data else None,
            "data.sampler": sampler,
            "data.batch_size": batch_size,
            "data.seq_len": seq_len,
            "optim.lr": learning_rate,
            "train.max_iters": max_iters,
            "train.seed": seed,
            "train.device": device,
            "train.dtype": dtype,
            "train.compile": None if compile_model is None else "on" if compile_model else "off",
            "eval.every": eval_every,
            "log.name": name,
        }
        run = _open(flags, sampler_option or [], tracker or [], config, assign or [], resume)
        try:
            if run.compute.rank == 0 and not quiet:
                _introduce(run)
            from tokpack.train.loop import train as loop

            outcome = loop(run, stop)
        finally:
            run.close()
    if run.compute.rank == 0 and not quiet:
        _conclude(run, outcome)
    if stop.number:
        raise typer.Exit(128 + stop.number)


def require_torch() -> None:
    """Say how to install what training needs, before something else fails for lack of it."""
    for module, package in {"torch": "torch", "safetensors": "safetensors"}.items():
        if find_spec(module) is None:
            raise UsageError(
                f"training needs {package}, which is not installed; pip install 'tokpack[train]'"
            )


def _open(
    flags: Mapping[str, Any],
    sampler_options: list[str],
    trackers: list[str],
    config: Path | None,
    assignments: list[str],
    resume: Path | None,
) -> Run:
    """Lay the settings over each other: saved ones, a file, flags; then build the run."""
    from tokpack.train.corpus import open_corpus
    from tokpack.train.layers import expand, layered, merge, nest, parse_assignment, without_factory
    from tokpack.train.parsing import read_toml

    asked = merge(*(nest(name, value) for name, value in flags.items() if value is not None))
    asked = merge(asked, *(nest("data.sampler_options", parse_assignment(text)) for text in sampler_options))
    asked = merge(asked, expand(assignments))
    if trackers:
        asked = merge(asked, nest("log.trackers", ["console", "jsonl", "csv", *trackers]))
    layers = [read_toml(config)] if config is not None else []
    saved: Mapping[str, Any] = {}
    folder = None
    if resume is not None:
        from tokpack.train.folder import RunFolder

        folder = RunFolder.open(resume)
        if "preset" in asked:
            raise UsageError("--preset and --resume exclude each other; a run keeps its model")
        saved = without_factory(folder.values(), asked.get("model", {}).get("factory", ""), where=resume)
    settings = layered([saved, *layers, asked], origin=str(config or "the command line"))
    plugins = discover()
    open_corpus(settings.data, plugins)
    plugins.samplers[settings.data.sampler]

    # From here on torch is needed, which takes seconds to import: every quick look is behind us.
    from tokpack.train.opening import open_run

    return open_run(settings, plugins, resume=folder)


def _introduce(run: Run) -> None:
    """Print every setting once, then what was found out."""
    from tokpack.train.parsing import dump_toml

    facts = run.facts
    typer.echo(dump_toml(run.settings))
    stderr().print(
        f"{run.folder.path}: {format_count(facts['parameters'])} parameters on {facts['device']}, "
        f"{facts['dtype']}, attention {facts['attention']}, {'' if facts['compiled'] else 'not '}compiled; "
        f"{format_count(facts['tokens_per_step'])} tokens per step of {format_count(facts['train_tokens'])}"
        + (f"; continues at step {format_count(run.progress.step)}" if run.progress.step else "")
    )
    if run.validation is None:
        lacking = ", ".join(run.corpus.lacking(run.settings.data.validation_split))
        remedy = "has no validation split (tokpack encode --val-fraction 0.01 makes one)"
        stderr().print(f"not evaluated: {f'{lacking} {remedy}' if lacking else 'eval.every is 0'}")
    for dataset in run.corpus.datasets.values():
        if not dataset.format.memory_mapped:
            stderr().print(
                f"{dataset.path} is stored as {dataset.manifest.format.name}, which is for exchange; "
                "a memory-mapped format feeds training faster: "
                f"tokpack convert {dataset.path} --format bin --output {dataset.path}-bin"
            )


def _conclude(run: Run, outcome: Outcome) -> None:
    from tokpack.train.corpus import epochs_seen

    best = f", best validation loss {outcome.best_loss:.4f}" if outcome.best_loss is not None else ""
    seen = run.progress.step * run.settings.data.global_batch_size
    epochs = format_epochs(epochs_seen(run.sampler, seen))
    spent = format_seconds(run.progress.seconds)
    if outcome.stopped_by and outcome.stopped_by != "patience":
        stderr().print(
            f"stopped by {outcome.stopped_by} at step {format_count(outcome.step)}, saved; "
            f"continue with: tokpack train --resume {run.folder.path}"
        )
        return
    why = " (no better for a while)" if outcome.stopped_by else ""
    stderr().print(f"done at step {format_count(outcome.step)}{why} in {spent}{best}; epochs: {epochs}")
    stderr().print(f'next: tokpack generate {run.folder.path} --prompt "Once upon a time"')
