"""Sizes of a model, from its settings alone. Imports no torch."""

from __future__ import annotations

from dataclasses import replace

from tokpack.errors import UsageError
from tokpack.train.config import ModelConfig

__all__ = ["complete", "count_parameters", "flops_per_token", "padded_vocab_size"]


def complete(config: ModelConfig, *, vocab_size: int, seq_len: int) -> ModelConfig:
    """Fill in every size that was left to be worked out.

    Raises:
        UsageError: sizes that do not fit each other.
    """
    if config.hidden_size % config.num_heads and not config.head_dim:
        raise UsageError(
            f"model.hidden_size {config.hidden_size} does not split over {config.num_heads} heads; "
            "change model.num_heads or set model.head_dim"
        )
    kv_heads = config.num_kv_heads or config.num_heads
    if config.num_heads % kv_heads:
        raise UsageError(
            f"model.num_heads {config.num_heads} is no multiple of model.num_kv_heads {kv_heads}"
        )
    head_dim = config.head_dim or config.hidden_size // config.num_heads
    if config.position == "rope" and head_dim % 2:
        raise UsageError(f"model.head_dim is {head_dim}; rotary positions need an even one")
    return replace(
        config,
        vocab_size=config.vocab_size or vocab_size,
        seq_len=config.seq_len or seq_len,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        ffn_size=config.ffn_size or 4 * config.hidden_size,
        rope_theta_local=config.rope_theta_local or config.rope_theta,
        attention_scale=config.attention_scale or head_dim**-0.5,
    )


def padded_vocab_size(config: ModelConfig) -> int:
    """Rows of the embedding: the vocabulary, rounded up so that matrix kernels run at full width."""
    return -(-config.vocab_size // config.pad_vocab_to) * config.pad_vocab_to


def count_parameters(config: ModelConfig, *, positions: bool = True) -> int:
    """Parameters of the model, without building it."""
    c, width = config, config.num_heads * config.head_dim
    qkv = width + 2 * config.num_kv_heads * config.head_dim
    gates = 1 if c.activation == "gelu" else 2
    matrices = c.hidden_size * (qkv + width) + c.hidden_size * c.ffn_size * (gates + 1)
    biases = (qkv + c.hidden_size + c.ffn_size * gates + c.hidden_size) if c.bias else 0
    norm = c.hidden_size * (2 if c.bias and c.norm == "layer" else 1)
    norms = norm * (4 if c.post_norm else 2) + (2 * c.head_dim if c.qk_norm else 0)
    tables = padded_vocab_size(c) * c.hidden_size * (1 if c.tied else 2)
    learned = c.seq_len * c.hidden_size if c.position == "learned" and positions else 0
    return tables + learned + c.num_layers * (matrices + biases + norms) + norm


def flops_per_token(config: ModelConfig, seq_len: int) -> int:
    """Floating-point operations to train on one token, by nanoGPT's (PaLM's) convention.

    6 × parameters without the position table, + 12 × layers × width × seq_len for attention, counted as if
    it were not causal.
    """
    width = config.num_heads * config.head_dim
    return 6 * count_parameters(config, positions=False) + 12 * config.num_layers * width * seq_len
