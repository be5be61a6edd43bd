"""`tokpack export`: a run's model in the form that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tokpack.cli.train import require_torch
from tokpack.errors import UsageError
from tokpack.plugins import discover

__all__ = ["export"]


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run: runs/NAME.", show_default=False)],
    output: Annotated[Path, typer.Argument(help="Folder (hf) or file (pt) to write.", show_default=False)],
    to: Annotated[
        Literal["hf", "pt"],
        typer.Option(help="hf: for transformers' from_pretrained; pt: for torch.load(weights_only=True)."),
    ] = "hf",
    checkpoint: Annotated[str, typer.Option(help="best, last, or a step.")] = "best",
) -> None:
    """Write a model for other tools.

    Examples: `tokpack export runs/tokenized-tiny ./model`,
    `tokpack export runs/tokenized-tiny best_model_params.pt --to pt`
    """
    require_torch()
    import torch

    from tokpack.train.checkpoint import export_weights
    from tokpack.train.hf import export_hf
    from tokpack.train.inference import open_trained
    from tokpack.train.model import GPT

    model = open_trained(run, discover(), which=checkpoint, device=torch.device("cpu")).model
    if output.exists() and (to == "pt" or any(output.iterdir())):
        raise UsageError(f"{output} exists; choose another name or remove it")
    if to == "pt":
        export_weights(model.state_dict(), output)
    elif isinstance(model, GPT):
        export_hf(model, output)
    typer.echo(f"{output} written")
