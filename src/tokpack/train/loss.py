"""Cross-entropy of the next token, summed, with bounded memory for large vocabularies."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

__all__ = ["IGNORE_INDEX", "chunk_for", "cross_entropy_sum", "linear_cross_entropy_sum"]

#: A label that is not predicted and counts for nothing.
IGNORE_INDEX = -100

_PLAIN_BYTES = 1 << 30  # on a CPU, logits up to this size are held whole
_CHUNK_BYTES = 1 << 28
_MOST_CHUNKS = 16  # each is unrolled where the loss is compiled


def chunk_for(requested: int, *, tokens: int, vocab_size: int, device: torch.device) -> int:
    """Return how many tokens' logits to hold at one time; 0 means all of them.

    Whole logits are quicker where there is room: up to a quarter of a GPU's memory, or 1 GiB on a CPU.
    """
    if requested:
        return requested if requested < tokens else 0
    on_cuda = device.type == "cuda"
    room = torch.cuda.get_device_properties(device).total_memory // 4 if on_cuda else _PLAIN_BYTES
    needed = tokens * vocab_size * 4
    if needed <= room:
        return 0
    chunks = min(_MOST_CHUNKS, -(-needed // _CHUNK_BYTES))
    return -(-tokens // chunks // 128) * 128


def cross_entropy_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of -log p(label) in nats (float32, scalar) over labels that are not ignored."""
    return F.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )


def linear_cross_entropy_sum(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, *, chunk: int = 0
) -> Tensor:
    """Same as `cross_entropy_sum` of ``hidden @ weight.T + bias``.

    ``hidden`` is (rows, seq_len, hidden_size), ``weight`` (vocab_size, hidden_size), ``labels`` int64 (rows,
    seq_len). With ``chunk`` only that many tokens' logits exist at one time: the gradient of each chunk is
    taken while its logits are there, as Liger Kernel (Hsu et al., 2024) does it.
    """
    if not chunk:
        return cross_entropy_sum(F.linear(hidden, weight, bias), labels)
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    apply = cast(Any, _Chunked).apply
    return cast(Tensor, apply(hidden.flatten(0, -2), weight, bias, labels.flatten(), chunk))


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, chunk: int
    ) -> Tensor:
        low = weight.to(hidden.dtype)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.zeros_like(hidden)
        grad_weight = torch.zeros_like(weight)
        for part, wanted, grad in zip(
            torch.split(hidden, chunk),
            torch.split(labels, chunk),
            torch.split(grad_hidden, chunk),
            strict=True,
        ):
            logits = F.linear(part, low).float()
            if bias is not None:
                logits += bias
            valid = wanted != IGNORE_INDEX
            target = wanted.clamp_min(0)[:, None]
            log_total = logits.logsumexp(dim=1)
            total += ((log_total - logits.gather(1, target)[:, 0]) * valid).sum()
            slope = (logits - log_total[:, None]).exp_()  # softmax, then minus one at the label
            slope.scatter_add_(1, target, -torch.ones_like(target, dtype=slope.dtype))
            slope = (slope * valid[:, None]).to(hidden.dtype)
            grad.copy_(slope @ low)
            grad_weight += slope.T @ part
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad_outputs[0], grad_weight * grad_outputs[0], None, None, None
