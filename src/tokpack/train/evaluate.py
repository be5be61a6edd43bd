"""What is done between steps: the loss on the validation split, and a sample of text.

Neither touches the random state that training uses, nor the position in the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice

import numpy as np
import torch

from tokpack.batches import TextBatch
from tokpack.loader.device import to_tensors
from tokpack.protocols import Tokenizer
from tokpack.samplers import empty_batch
from tokpack.train.generate import Sampling, generate
from tokpack.train.loss import IGNORE_INDEX
from tokpack.train.runs import Run

__all__ = ["evaluate", "prompt_tokens", "sample_text"]


@torch.no_grad()
def evaluate(run: Run, *, should_stop: Callable[[], bool]) -> dict[str, float]:
    """Return ``validation_loss`` (nats per token), ``perplexity`` and ``bits_per_byte``; {} if stopped.

    The rows are the same every time and in every run, whatever its seed. Bits per byte count the bytes of
    the text that was encoded, so that tokenizers can be compared; where a mask leaves out part of the text,
    there are none.
    """
    sampler, share = run.validation, run.loader.share
    assert sampler is not None
    each = share.batch_size * share.world_size
    batches = min(run.settings.eval.batches, max(1, sampler.rows_before(1) // each))
    memory = empty_batch(sampler, share.batch_size)
    total = torch.zeros((), dtype=torch.float64, device=run.compute.device)
    valid = torch.zeros((), dtype=torch.int64, device=run.compute.device)
    run.module.eval()
    try:
        for index in range(batches):
            if should_stop():
                return {}
            begin = index * each + share.rank * share.batch_size
            sampler.fill(np.arange(begin, begin + share.batch_size, dtype=np.int64), memory)
            batch = to_tensors(memory, run.compute.device)
            with run.compute.autocast():
                total += run.module(*run.loss.of(batch, run.plan(batch)))
            valid += (batch.labels != IGNORE_INDEX).sum()
    finally:
        run.module.train()
    loss = float(run.compute.sum(total)) / max(1, int(run.compute.sum(valid)))
    found = {"validation_loss": loss, "perplexity": math.exp(min(loss, 700.0))}
    bytes_per_token = run.corpus.bytes_per_token(run.settings.data.validation_split)
    if bytes_per_token and not sampler.masked:
        found["bits_per_byte"] = loss / math.log(2) / bytes_per_token
    return found


def prompt_tokens(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Encode a prompt; an empty one becomes the id that stands at the beginning of documents, if any."""
    if prompt:
        return [int(token) for token in tokenizer.encode_batch(TextBatch.from_texts([prompt]))[0]]
    start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
    return prompt_tokens(tokenizer, "\n") if start is None else [start]


def sample_text(run: Run, *, should_stop: Callable[[], bool]) -> str | None:
    """Return text of the model as it is now; "" on ranks other than 0, None if stopped.

    What is drawn depends on the run's seed and step only. Each rank must ask: weights that FSDP2 spread over
    them are gathered on rank 0.
    """
    model = run.whole_model()
    if model is None:
        return ""
    config, train = run.settings.sample, run.settings.train
    generator = torch.Generator().manual_seed((train.seed << 32) + run.progress.step)
    sampling = Sampling(
        max_tokens=config.tokens,
        temperature=config.temperature,
        top_k=config.top_k,
        stop_id=run.tokenizer.eos_id,
    )
    prompt = prompt_tokens(run.tokenizer, config.prompt)
    tokens: list[int] = []
    with run.compute.autocast():
        drawn = generate(
            model,
            prompt,
            sampling,
            vocab_size=run.tokenizer.vocab_size,
            seq_len=run.settings.model.seq_len,
            generator=generator,
        )
        for token in islice(drawn, config.tokens):
            if should_stop():
                return None
            tokens.append(token)
    shown = run.tokenizer.decode_bytes(tokens).decode("utf-8", errors="replace") if tokens else ""
    return config.prompt + shown
