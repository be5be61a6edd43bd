"""Text from a model, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokpack.errors import UsageError
from tokpack.protocols import Tokenizer
from tokpack.train.model import GPT, KVCache

__all__ = ["Sampling", "draw", "generate", "stream_text"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen."""

    max_tokens: int = 200
    temperature: float = 0.8  # 0: always the most probable token
    top_k: int = 0  # only the k most probable; 0: all
    top_p: float = 1.0  # only the most probable that together reach this share
    stop_id: int | None = None

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise UsageError(f"temperature is {self.temperature}; it must be 0 or more")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if self.top_k < 0 or self.max_tokens < 0:
            raise UsageError("top_k and max_tokens must be 0 or more")


def draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Choose one id from float32 ``logits`` (vocab_size,). The drawing itself is done on the CPU, so that a
    seed means the same on every device.
    """
    if sampling.temperature == 0:
        return int(logits.argmax())
    scores = logits.float().cpu() / sampling.temperature
    if 0 < sampling.top_k < len(scores):
        scores[scores < scores.topk(sampling.top_k).values[-1]] = -torch.inf
    probabilities = scores.softmax(dim=0)
    if sampling.top_p < 1:
        ordered, order = probabilities.sort(descending=True)
        beyond = ordered.cumsum(0) - ordered >= sampling.top_p  # the first one to reach top_p stays
        probabilities[order[beyond]] = 0.0
    return int(torch.multinomial(probabilities, 1, generator=generator))


@torch.no_grad()
def generate(
    model: nn.Module,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    vocab_size: int,
    seq_len: int,
    generator: torch.Generator,
) -> Iterator[int]:
    """Yield token ids that follow ``prompt`` until ``sampling`` says stop.

    The model's mode is left as it was. A `GPT` keeps keys and values of what it has seen; when its context is
    full, the latter half of it is read again and generation goes on.
    """
    if not prompt:
        raise UsageError(
            "the prompt is empty and the tokenizer has no id that begins a document; give a prompt"
        )
    device = next(model.parameters()).device
    tokens = list(prompt)
    cache: KVCache | None = None
    unread = tokens[-seq_len:]
    for _ in range(sampling.max_tokens):
        training = model.training
        model.eval()
        if isinstance(model, GPT):
            if cache is None or cache.length + len(unread) > seq_len:
                unread = tokens[-seq_len:] if cache is None else tokens[-(seq_len // 2 or 1) :]
                dtype = _dtype(device, model)
                cache = KVCache(model.config, rows=1, device=device, dtype=dtype)
            hidden = model.hidden_states(torch.tensor([unread], device=device), cache=cache)[:, -1]
            logits = torch.nn.functional.linear(hidden, model.head_weight)[0]
        else:
            output = model(torch.tensor([tokens[-seq_len:]], device=device))
            logits = getattr(output, "logits", output)[0, -1]
        model.train(training)
        token = draw(logits[:vocab_size], sampling, generator)
        if token == sampling.stop_id:
            return
        tokens.append(token)
        unread = [token]
        yield token


def _dtype(device: torch.device, model: nn.Module) -> torch.dtype:
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return next(model.parameters()).dtype


def stream_text(tokenizer: Tokenizer, tokens: Iterator[int]) -> Iterator[str]:
    """Yield text as tokens arrive, never half a character; joined, it is the text of all tokens."""
    seen: list[int] = []
    shown = ""
    for token in tokens:
        seen.append(token)
        text = tokenizer.decode_bytes(seen).decode("utf-8", errors="replace")
        # U+FFFD at the end is most often a character whose last bytes are still to come.
        settled = text.rstrip("\ufffd")
        if settled.startswith(shown) and len(settled) > len(shown):
            yield settled[len(shown) :]
            shown = settled
    text = tokenizer.decode_bytes(seen).decode("utf-8", errors="replace") if seen else ""
    if len(text) > len(shown):
        yield text[len(shown) :]
