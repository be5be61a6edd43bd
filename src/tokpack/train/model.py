"""The transformer, all of it: GPT-2, Llama, Qwen and Gemma are settings of this one file.

Letters of shapes: B rows, T positions, C hidden size, H query heads, K key/value heads,
D head size, V vocabulary (padded).
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tokpack.train.attention import CAUSAL, AttentionPlan, attend
from tokpack.train.config import ModelConfig
from tokpack.train.shape import padded_vocab_size

__all__ = ["GPT", "KVCache"]


class KVCache:
    """Keys and values of positions already seen, for generation. Each is (B, K, capacity, D) per layer."""

    def __init__(self, config: ModelConfig, *, rows: int, device: torch.device, dtype: torch.dtype) -> None:
        shape = (rows, config.num_kv_heads, config.seq_len, config.head_dim)
        self.keys = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]
        self.values = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]
        self.length = 0

    def append(self, layer: int, k: Tensor, v: Tensor, window: int) -> tuple[Tensor, Tensor]:
        """Store new positions of one layer; return all that the newest of them may see."""
        stop = self.length + k.shape[2]
        self.keys[layer][:, :, self.length : stop] = k
        self.values[layer][:, :, self.length : stop] = v
        start = max(0, stop - window) if window and k.shape[2] == 1 else 0
        return self.keys[layer][:, :, start:stop], self.values[layer][:, :, start:stop]


class Norm(nn.Module):
    """LayerNorm or RMSNorm, in float32 whatever comes in."""

    def __init__(self, config: ModelConfig, size: int, *, rms: bool | None = None) -> None:
        super().__init__()
        self.rms = config.norm == "rms" if rms is None else rms
        self.eps, self.offset = config.norm_eps, float(config.norm_offset)
        self.weight = nn.Parameter(torch.full((size,), 1.0 - self.offset))
        self.bias = nn.Parameter(torch.zeros(size)) if config.bias and not self.rms else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        if self.rms:
            weight = self.weight + self.offset if self.offset else self.weight
            return F.rms_norm(x.float(), x.shape[-1:], weight, self.eps).to(x.dtype)
        return F.layer_norm(x.float(), x.shape[-1:], self.weight, self.bias, self.eps).to(x.dtype)


class Rotary(nn.Module):
    """Rotary positions (Su et al., 2021), halves paired as Hugging Face's Llama does it."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig, theta: float) -> None:
        super().__init__()
        rates = theta ** (-torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim)
        angles = torch.outer(torch.arange(config.seq_len, dtype=torch.float32), rates).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor, position_ids: Tensor) -> Tensor:
        """Rotate ``x`` (B, H, T, D); ``position_ids`` is (T,) or (B, T)."""
        cos, sin = self.cos[position_ids], self.sin[position_ids]
        if position_ids.dim() == 2:
            cos, sin = cos[:, None], sin[:, None]
        first, second = x.float().chunk(2, dim=-1)
        return (x * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query self-attention of one layer."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        is_global = config.global_every > 0 and (layer + 1) % config.global_every == 0
        self.layer, self.window = layer, 0 if is_global else config.sliding_window
        self.heads, self.kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self.scale, self.dropout = config.attention_scale, config.dropout
        width = (self.heads + 2 * self.kv_heads) * self.head_dim
        self.qkv = nn.Linear(config.hidden_size, width, bias=config.bias)
        self.out = nn.Linear(self.heads * self.head_dim, config.hidden_size, bias=config.bias)
        self.q_norm = Norm(config, self.head_dim, rms=True) if config.qk_norm else None
        self.k_norm = Norm(config, self.head_dim, rms=True) if config.qk_norm else None
        theta = config.rope_theta_local if self.window else config.rope_theta
        self.rotary = Rotary(config, theta) if config.position == "rope" else None

    def forward(
        self,
        x: Tensor,
        position_ids: Tensor,
        plan: AttentionPlan,
        cache: KVCache | None,
    ) -> Tensor:
        """Mix positions; ``x`` and what is returned are (B, T, C)."""
        rows, seq_len, _ = x.shape
        sizes = (self.heads, self.kv_heads, self.kv_heads)
        parts = self.qkv(x).view(rows, seq_len, -1, self.head_dim).split(sizes, dim=2)
        q, k, v = (part.transpose(1, 2) for part in parts)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rotary is not None:
            q, k = self.rotary(q, position_ids), self.rotary(k, position_ids)
        if cache is not None:
            k, v = cache.append(self.layer, k, v, self.window)
        if cache is not None and seq_len == 1:  # the newest position sees all that the cache returned
            y = F.scaled_dot_product_attention(
                q, k, v, scale=self.scale, enable_gqa=self.heads != self.kv_heads
            )
        else:
            dropout = self.dropout if self.training else 0.0
            y = attend(q, k, v, plan, window=self.window, scale=self.scale, dropout=dropout)
        return cast(Tensor, self.out(y.transpose(1, 2).reshape(rows, seq_len, -1)))


class FeedForward(nn.Module):
    """The part of a layer that treats every position on its own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gated, self.silu = config.activation != "gelu", config.activation == "swiglu"
        wide = config.ffn_size * (2 if self.gated else 1)
        self.up = nn.Linear(config.hidden_size, wide, bias=config.bias)  # gate first where there is one
        self.down = nn.Linear(config.ffn_size, config.hidden_size, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Widen, bend, narrow."""
        x = self.up(x)
        if self.gated:
            gate, x = x.chunk(2, dim=-1)
            x = x * (F.silu(gate) if self.silu else F.gelu(gate, approximate="tanh"))
        else:
            x = F.gelu(x, approximate="tanh")
        return cast(Tensor, self.down(x))


class Block(nn.Module):
    """One layer: attention, then feed-forward, each added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        size = config.hidden_size
        self.attention_norm, self.attention = Norm(config, size), Attention(config, layer)
        self.ffn_norm, self.ffn = Norm(config, size), FeedForward(config)
        self.attention_post = Norm(config, size) if config.post_norm else nn.Identity()
        self.ffn_post = Norm(config, size) if config.post_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    def forward(self, x: Tensor, position_ids: Tensor, plan: AttentionPlan, cache: KVCache | None) -> Tensor:
        """Return the residual stream after this layer, (B, T, C)."""
        mixed = self.attention(self.attention_norm(x), position_ids, plan, cache)
        x = x + self.dropout(self.attention_post(mixed))
        return cast(Tensor, x + self.dropout(self.ffn_post(self.ffn(self.ffn_norm(x)))))


class GPT(nn.Module):
    """A decoder-only transformer."""

    padding_bias: Tensor | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        rows, size = padded_vocab_size(config), config.hidden_size
        self.embedding = nn.Embedding(rows, size)
        self.position = nn.Embedding(config.seq_len, size) if config.position == "learned" else None
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = Norm(config, size)
        self.head = None if config.tied else nn.Linear(size, rows, bias=False)
        # Padded ids get -inf, so they take no probability and no gradient: as if they were not there.
        padding = torch.zeros(rows).index_fill(0, torch.arange(config.vocab_size, rows), -math.inf)
        self.register_buffer("padding_bias", padding if rows > config.vocab_size else None, persistent=False)
        self.activation_checkpointing = False
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw weights as GPT-2 does: normal, with the layers' outputs scaled by 1 / sqrt(2 · layers)."""
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue  # norms and biases begin at one and zero already, or are set below
            last = name.endswith(("attention.out.weight", "ffn.down.weight"))
            shrink = math.sqrt(2 * self.config.num_layers) if last else 1.0
            parameter.normal_(0.0, self.config.init_std / shrink)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()
        self.embedding.weight[self.config.vocab_size :] = 0.0

    @property
    def head_weight(self) -> Tensor:
        """The matrix from hidden states to logits, (V, C)."""
        return self.embedding.weight if self.head is None else self.head.weight

    def hidden_states(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        plan: AttentionPlan = CAUSAL,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Return normalised hidden states (B, T, C) of ``input_ids`` (B, T), int32 or int64.

        ``position_ids`` (T,) or (B, T) defaults to counting on from what ``cache`` holds.
        """
        start = cache.length if cache is not None else 0
        if position_ids is None:
            position_ids = torch.arange(start, start + input_ids.shape[1], device=input_ids.device)
        x = self.embedding(input_ids)
        if self.config.scale_embedding:
            x = x * self.config.hidden_size**0.5
        if self.position is not None:
            x = x + self.position(position_ids)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))  # the residual stream is narrow, too
        x = self.dropout(x)
        for block in self.blocks:
            if self.activation_checkpointing and self.training:
                x = checkpoint(block, x, position_ids, plan, cache, use_reentrant=False)
            else:
                x = block(x, position_ids, plan, cache)
        if cache is not None:
            cache.length += input_ids.shape[1]
        return cast(Tensor, self.norm(x))

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        plan: AttentionPlan = CAUSAL,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Return logits (B, T, V); those of padded ids are -inf."""
        hidden = self.hidden_states(input_ids, position_ids, plan, cache)
        return F.linear(hidden, self.head_weight, self.padding_bias)
