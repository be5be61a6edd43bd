"""How Hugging Face lays out GPT-2, Llama and Gemma 3: names of tensors, and keys of ``config.json``."""

from __future__ import annotations

from typing import Any

__all__ = ["ACTIVATION", "ARCHITECTURE", "DEFAULTS", "FIELDS", "FIXED", "LAYERS", "OUTER", "PREFIX"]

# Per layer: our name -> theirs. Several of theirs lie one after another in ours.
QKV = tuple(f"self_attn.{part}_proj.weight" for part in "qkv")
LLAMA_LAYER: dict[str, tuple[str, ...]] = {
    "attention_norm.weight": ("input_layernorm.weight",),
    "attention.qkv.weight": QKV,
    "attention.out.weight": ("self_attn.o_proj.weight",),
    "ffn_norm.weight": ("post_attention_layernorm.weight",),
    "ffn.up.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
    "ffn.down.weight": ("mlp.down_proj.weight",),
}
GEMMA3_LAYER = LLAMA_LAYER | {
    "attention.q_norm.weight": ("self_attn.q_norm.weight",),
    "attention.k_norm.weight": ("self_attn.k_norm.weight",),
    "attention_post.weight": ("post_attention_layernorm.weight",),
    "ffn_norm.weight": ("pre_feedforward_layernorm.weight",),
    "ffn_post.weight": ("post_feedforward_layernorm.weight",),
}
GPT2_LAYER: dict[str, tuple[str, ...]] = {
    f"{ours}.{kind}": (f"{theirs}.{kind}",)
    for ours, theirs in {
        "attention_norm": "ln_1",
        "attention.qkv": "attn.c_attn",
        "attention.out": "attn.c_proj",
        "ffn_norm": "ln_2",
        "ffn.up": "mlp.c_fc",
        "ffn.down": "mlp.c_proj",
    }.items()
    for kind in ("weight", "bias")
}
LAYERS = {"gpt2": GPT2_LAYER, "llama": LLAMA_LAYER, "gemma3_text": GEMMA3_LAYER}
OUTER = {
    "gpt2": {
        "embedding.weight": "transformer.wte.weight",
        "position.weight": "transformer.wpe.weight",
        "norm.weight": "transformer.ln_f.weight",
        "norm.bias": "transformer.ln_f.bias",
    },
    "llama": {
        "embedding.weight": "model.embed_tokens.weight",
        "norm.weight": "model.norm.weight",
        "head.weight": "lm_head.weight",
    },
}
OUTER["gemma3_text"] = OUTER["llama"]
PREFIX = {"gpt2": "transformer.h", "llama": "model.layers", "gemma3_text": "model.layers"}

# config.json -> ours, where only the name differs.
FIELDS: dict[str, dict[str, str]] = {
    "gpt2": {
        "vocab_size": "vocab_size",
        "n_positions": "seq_len",
        "n_embd": "hidden_size",
        "n_layer": "num_layers",
        "n_head": "num_heads",
        "n_inner": "ffn_size",
        "layer_norm_epsilon": "norm_eps",
        "resid_pdrop": "dropout",
    },
    "llama": {
        "vocab_size": "vocab_size",
        "max_position_embeddings": "seq_len",
        "hidden_size": "hidden_size",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "num_key_value_heads": "num_kv_heads",
        "head_dim": "head_dim",
        "intermediate_size": "ffn_size",
        "rms_norm_eps": "norm_eps",
        "rope_theta": "rope_theta",
        "tie_word_embeddings": "tied",
    },
}
FIELDS["gemma3_text"] = FIELDS["llama"] | {
    "rope_local_base_freq": "rope_theta_local",
    "sliding_window": "sliding_window",
    "sliding_window_pattern": "global_every",
}
FIXED: dict[str, dict[str, Any]] = {
    "gpt2": {"norm": "layer", "position": "learned", "activation": "gelu", "bias": True, "tied": True},
    "llama": {"norm": "rms", "position": "rope", "activation": "swiglu", "bias": False},
    "gemma3_text": {
        "norm": "rms",
        "position": "rope",
        "activation": "geglu",
        "bias": False,
        "norm_offset": True,
        "post_norm": True,
        "qk_norm": True,
        "scale_embedding": True,
    },
}
# What transformers assumes where an older config.json says nothing.
DEFAULTS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "llama": {"tie_word_embeddings": False, "rope_theta": 10_000.0},
    "gemma3_text": {
        "tie_word_embeddings": True,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "sliding_window_pattern": 6,
        "head_dim": 256,
    },
}
ARCHITECTURE = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "gemma3_text": "Gemma3ForCausalLM"}
ACTIVATION = {"gpt2": "gelu_new", "llama": "silu", "gemma3_text": "gelu_pytorch_tanh"}
