"""`tokpack generate`: text from a run's model, as it comes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tokpack.cli.train import require_torch
from tokpack.errors import UsageError
from tokpack.plugins import discover

__all__ = ["generate"]


def generate(
    run: Annotated[Path, typer.Argument(help="Folder of a run: runs/NAME.", show_default=False)],
    prompt: Annotated[
        str, typer.Option("--prompt", "-p", help="Text to go on from. Default: as a document begins.")
    ] = "",
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", help="Most tokens to write.")] = 200,
    temperature: Annotated[
        float, typer.Option(help="Below 1 plainer, above 1 wilder; 0: always the most probable token.")
    ] = 0.8,
    top_k: Annotated[int, typer.Option(help="Choose among the k most probable tokens; 0: all.")] = 0,
    top_p: Annotated[
        float, typer.Option(help="Choose among the most probable tokens that reach this share.")
    ] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Repeat a text: same seed, same text.")] = None,
    samples: Annotated[int, typer.Option(help="How many texts to write.")] = 1,
    checkpoint: Annotated[str, typer.Option(help="best, last, or a step.")] = "best",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    factory: Annotated[
        str, typer.Option(help="module:function of a model that is not tokpack's own.", show_default=False)
    ] = "",
) -> None:
    """Write text with a trained model.

    The run folder holds all that is needed: weights, settings and the tokenizer.

    Example: `tokpack generate runs/tokenized-tiny --prompt "Once upon a time" --temperature 0.7 --top-p 0.95`
    """
    require_torch()
    import torch

    from tokpack.train.devices import find_device
    from tokpack.train.evaluate import prompt_tokens
    from tokpack.train.generate import Sampling, stream_text
    from tokpack.train.generate import generate as draw_tokens
    from tokpack.train.inference import open_trained

    if samples < 1:
        raise UsageError(f"--samples is {samples}; it must be at least 1")
    plugins = discover()
    trained = open_trained(run, plugins, which=checkpoint, device=find_device(device), factory=factory)
    tokenizer = trained.tokenizer
    sampling = Sampling(max_tokens, temperature, top_k, top_p, stop_id=tokenizer.eos_id)
    start = prompt_tokens(tokenizer, prompt)
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    for _ in range(samples):
        tokens = draw_tokens(
            trained.model,
            start,
            sampling,
            vocab_size=tokenizer.vocab_size,
            seq_len=trained.settings.model.seq_len,
            generator=generator,
        )
        sys.stdout.write(prompt)
        for piece in stream_text(tokenizer, tokens):
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
