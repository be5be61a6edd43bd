"""Causal attention that stays inside documents, by whichever kernel the machine has.

| kernel | where | how documents are kept apart |
|---|---|---|
| `varlen` | CUDA, 16-bit, torch >= 2.10 | each document is a sequence of its own (`cu_seqlens`) |
| `flex` | CUDA, compiled | a block mask, built once for each batch |
| `sdpa` | anywhere | a dense mask; none, and so the quickest kernel, where nothing is packed |

What a batch needs is worked out once, outside the compiled model, as an `AttentionPlan`; shapes never
change from step to step.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from tokpack.errors import UsageError

__all__ = ["CAUSAL", "AttentionPlan", "Kernel", "attend", "choose_kernel", "plan_attention"]

Kernel = Literal["sdpa", "flex", "varlen"]

#: Rows up to this long attend in float32 on a CPU: torch's bfloat16 kernel takes up to four times as long
#: there, since its backward pass works in blocks that short rows do not fill.
_SHORT = 256


class AttentionPlan(NamedTuple):
    """How the positions of one batch see each other.

    ``everywhere`` and ``local`` are masks for global and sliding-window layers: bool (rows or 1, 1, seq_len,
    seq_len) for `sdpa`, a BlockMask for `flex`, None where plain causality is meant. ``cu_seqlens`` is int32
    of shape (capacity,): document boundaries over all rows laid end to end, repeated at the end.
    """

    kernel: Kernel = "sdpa"
    everywhere: Any = None
    local: Any = None
    cu_seqlens: Tensor | None = None
    max_len: int = 0


#: Plain causal attention over whole rows.
CAUSAL = AttentionPlan()


def choose_kernel(
    requested: str, *, device: torch.device, dtype: torch.dtype, documents: bool, window: bool
) -> Kernel:
    """Pick the kernel for a run.

    Raises:
        UsageError: the one asked for cannot run here.
    """
    has_varlen = (
        device.type == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and find_spec("torch.nn.attention.varlen") is not None
    )
    if requested == "varlen" and not has_varlen:
        raise UsageError(
            "attention 'varlen' needs CUDA, a 16-bit dtype and torch 2.10 or newer; "
            "use --set train.attention=auto"
        )
    if requested == "flex" and device.type != "cuda":
        raise UsageError("attention 'flex' needs CUDA; use --set train.attention=auto")
    if requested != "auto":
        return cast(Kernel, requested)
    if device.type != "cuda" or not (documents or window):
        return "sdpa"
    return "varlen" if has_varlen else "flex"


def plan_attention(
    kernel: Kernel,
    *,
    rows: int,
    seq_len: int,
    device: torch.device,
    window: int = 0,
    segment_ids: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
) -> AttentionPlan:
    """Work out the masks or boundaries of one batch.

    ``segment_ids`` (rows, seq_len) says which positions belong together, None that rows are whole;
    ``cu_seqlens`` is needed by `varlen` when rows are packed. ``window`` is what local layers look back.
    """
    narrow = 0 < window < seq_len
    if kernel == "varlen":
        if segment_ids is None:
            cu_seqlens = torch.arange(rows + 1, dtype=torch.int32, device=device) * seq_len
        if cu_seqlens is None:
            raise UsageError("attention 'varlen' needs cu_seqlens with packed rows; use train.attention=flex")
        return AttentionPlan("varlen", cu_seqlens=cu_seqlens, max_len=seq_len)
    if kernel == "flex" and (segment_ids is not None or narrow):
        return AttentionPlan(
            "flex",
            everywhere=_block_mask(rows, seq_len, 0, segment_ids, device),
            local=_block_mask(rows, seq_len, window, segment_ids, device) if narrow else None,
        )
    everywhere = None
    if segment_ids is not None:
        same = segment_ids[:, :, None] == segment_ids[:, None, :]
        everywhere = (same & _causal(seq_len, 0, device))[:, None]
    local = everywhere
    if narrow:
        band = _causal(seq_len, window, device)[None, None]
        local = band if everywhere is None else everywhere & band
    return AttentionPlan("sdpa", everywhere, local)


def _causal(seq_len: int, window: int, device: torch.device) -> Tensor:
    """Bool (seq_len, seq_len): query row sees key column; at most ``window`` positions back unless 0."""
    position = torch.arange(seq_len, device=device)
    back = position[:, None] - position[None, :]
    return (back >= 0) & (back < window) if window else back >= 0


def _block_mask(
    rows: int, seq_len: int, window: int, segment_ids: Tensor | None, device: torch.device
) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def visible(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = query >= key
        if window:
            seen = seen & (query - key < window)
        if segment_ids is not None:
            seen = seen & (segment_ids[row, query] == segment_ids[row, key])
        return seen

    return create_block_mask(
        visible, rows if segment_ids is not None else None, None, seq_len, seq_len, device=device.type
    )


def attend(
    q: Tensor, k: Tensor, v: Tensor, plan: AttentionPlan, *, window: int, scale: float, dropout: float
) -> Tensor:
    """Attention of ``q`` (rows, heads, seq_len, head_dim) over ``k``, ``v`` (rows, kv_heads, …).

    ``window`` is 0 for a global layer. Returns the shape of ``q``.
    """
    grouped = q.shape[1] != k.shape[1]
    narrow = 0 < window < q.shape[2]
    if plan.kernel == "varlen":
        return _varlen(q, k, v, plan, window=window if narrow else 0, scale=scale, grouped=grouped)
    mask = plan.local if narrow else plan.everywhere
    if plan.kernel == "flex" and mask is not None:
        return cast(Tensor, _flex_attention()(q, k, v, block_mask=mask, scale=scale, enable_gqa=grouped))
    if mask is None and narrow:  # the caller planned nothing for this layer: generation, or a test
        mask = _causal(q.shape[2], window, q.device)
    kept, wide = q.dtype, q.device.type == "cpu" and q.shape[2] <= _SHORT
    # Autocast would narrow the arguments again.
    with torch.autocast(q.device.type, enabled=False) if wide else nullcontext():
        if wide:
            q, k, v = q.float(), k.float(), v.float()
        out = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None,
            scale=scale,
            enable_gqa=grouped,
        )
    return out.to(kept)


def _varlen(
    q: Tensor, k: Tensor, v: Tensor, plan: AttentionPlan, *, window: int, scale: float, grouped: bool
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    rows, heads, seq_len, head_dim = q.shape
    assert plan.cu_seqlens is not None
    flat_q, flat_k, flat_v = (x.transpose(1, 2).reshape(rows * seq_len, -1, head_dim) for x in (q, k, v))
    # torch counts the window as keys before the query; ours includes the query itself.
    out = varlen_attn(
        flat_q,
        flat_k,
        flat_v,
        plan.cu_seqlens,
        plan.cu_seqlens,
        plan.max_len,
        plan.max_len,
        scale=scale,
        window_size=(window - 1 if window else -1, 0),
        enable_gqa=grouped,
    )
    return cast(Tensor, out).view(rows, seq_len, heads, head_dim).transpose(1, 2)


@cache
def _flex_attention() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)
