"""Weights in Hugging Face's layout, both ways: GPT-2, Llama and Gemma 3.

Names and numbers only: no code of a model is ever loaded, and `transformers` is not needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tokpack.errors import DamagedError, StorageError, UsageError
from tokpack.train.config import ModelConfig
from tokpack.train.model import GPT, complete

__all__ = ["export_hf", "from_hf", "import_hf", "to_hf"]

# Per layer: our name -> theirs. Several of theirs lie one after another in ours.
_QKV = tuple(f"self_attn.{part}_proj.weight" for part in "qkv")
_LLAMA_LAYER: dict[str, tuple[str, ...]] = {
    "attention_norm.weight": ("input_layernorm.weight",),
    "attention.qkv.weight": _QKV,
    "attention.out.weight": ("self_attn.o_proj.weight",),
    "ffn_norm.weight": ("post_attention_layernorm.weight",),
    "ffn.up.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
    "ffn.down.weight": ("mlp.down_proj.weight",),
}
_GEMMA3_LAYER = _LLAMA_LAYER | {
    "attention.q_norm.weight": ("self_attn.q_norm.weight",),
    "attention.k_norm.weight": ("self_attn.k_norm.weight",),
    "attention_post.weight": ("post_attention_layernorm.weight",),
    "ffn_norm.weight": ("pre_feedforward_layernorm.weight",),
    "ffn_post.weight": ("post_feedforward_layernorm.weight",),
}
_GPT2_LAYER: dict[str, tuple[str, ...]] = {
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
_LAYERS = {"gpt2": _GPT2_LAYER, "llama": _LLAMA_LAYER, "gemma3_text": _GEMMA3_LAYER}
_OUTER = {
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
_OUTER["gemma3_text"] = _OUTER["llama"]
_PREFIX = {"gpt2": "transformer.h", "llama": "model.layers", "gemma3_text": "model.layers"}

# config.json -> ours, where only the name differs.
_FIELDS: dict[str, dict[str, str]] = {
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
_FIELDS["gemma3_text"] = _FIELDS["llama"] | {
    "rope_local_base_freq": "rope_theta_local",
    "sliding_window": "sliding_window",
    "sliding_window_pattern": "global_every",
}
_FIXED: dict[str, dict[str, Any]] = {
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
_DEFAULTS: dict[str, dict[str, Any]] = {
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
_ARCHITECTURE = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "gemma3_text": "Gemma3ForCausalLM"}
_ACTIVATION = {"gpt2": "gelu_new", "llama": "silu", "gemma3_text": "gelu_pytorch_tanh"}


def from_hf(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Translate a ``config.json`` and its tensors into our shape and state dict.

    Raises:
        UsageError: an architecture or variant that this model does not have.
        DamagedError: a tensor is missing.
    """
    kind = str(config.get("model_type"))
    if kind not in _LAYERS:
        raise UsageError(f"model_type {kind!r} is not supported; supported: {', '.join(_LAYERS)}")
    values = _DEFAULTS[kind] | dict(config)
    _flatten_rope(values)
    _refuse_variants(kind, values)
    known = {ours: values[theirs] for theirs, ours in _FIELDS[kind].items() if values.get(theirs) is not None}
    shape = ModelConfig(**_FIXED[kind], **known)
    if kind == "gemma3_text" and (scalar := values.get("query_pre_attn_scalar")):
        shape = replace(shape, attention_scale=float(scalar) ** -0.5)
    shape = complete(shape, vocab_size=shape.vocab_size, seq_len=shape.seq_len)
    if kind == "gpt2" and "wte.weight" in tensors:  # files saved without the language-model head
        tensors = {f"transformer.{name}": tensor for name, tensor in tensors.items()}
    return shape, _translate_in(kind, shape, tensors)


def _flatten_rope(values: dict[str, Any]) -> None:
    """Newer files keep the rotary settings in a section of their own."""
    rope = values.get("rope_parameters") or {}
    layered = {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"}
    for section, name in layered.items():
        if isinstance(rope.get(section), Mapping):
            values[name] = rope[section].get("rope_theta", values.get(name))
            values["rope_scaling"] = rope[section] if _scaled(rope[section]) else values.get("rope_scaling")
    if "rope_theta" in rope:
        values["rope_theta"] = rope["rope_theta"]
        values["rope_scaling"] = rope if _scaled(rope) else values.get("rope_scaling")


def _scaled(rope: Mapping[str, Any]) -> bool:
    return str(rope.get("rope_type", "default")) != "default"


def _refuse_variants(kind: str, values: Mapping[str, Any]) -> None:
    activation = values.get("activation_function" if kind == "gpt2" else "hidden_activation") or values.get(
        "hidden_act", _ACTIVATION[kind]
    )
    for name, wrong in {
        "rope_scaling": bool(values.get("rope_scaling")),
        "attention_bias": bool(values.get("attention_bias")),
        "mlp_bias": bool(values.get("mlp_bias")),
        "scale_attn_by_inverse_layer_idx": bool(values.get("scale_attn_by_inverse_layer_idx")),
        "final_logit_softcapping": bool(values.get("final_logit_softcapping")),
        "attn_logit_softcapping": bool(values.get("attn_logit_softcapping")),
        "the activation": activation != _ACTIVATION[kind],
    }.items():
        if wrong:
            raise UsageError(f"this {kind} variant sets {name}, which tokpack's model does not have")


def _names(kind: str, shape: ModelConfig) -> dict[str, tuple[str, ...]]:
    """Our state dict's names -> theirs, all layers."""
    names: dict[str, tuple[str, ...]] = {
        ours: (name,) for ours, name in _OUTER[kind].items() if ours != "head.weight" or not shape.tied
    }
    for layer in range(shape.num_layers):
        for ours, theirs in _LAYERS[kind].items():
            names[f"blocks.{layer}.{ours}"] = tuple(f"{_PREFIX[kind]}.{layer}.{name}" for name in theirs)
    return names


def _transposed(kind: str, ours: str) -> bool:
    """GPT-2's matrices lie the other way round: (in, out)."""
    return kind == "gpt2" and bool(re.search(r"(qkv|out|up|down)\.weight$", ours))


def _translate_in(kind: str, shape: ModelConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    with torch.device("meta"):
        expected = GPT(shape).state_dict()
    state: dict[str, Tensor] = {}
    for ours, theirs in _names(kind, shape).items():
        if missing := [name for name in theirs if name not in tensors]:
            raise DamagedError(f"the model has no tensor {missing[0]!r}; is the file of one piece?")
        tensor = torch.cat([tensors[name] for name in theirs]) if len(theirs) > 1 else tensors[theirs[0]]
        tensor = tensor.float().T if _transposed(kind, ours) else tensor.float()
        rows = expected[ours].shape[0]
        if ours in ("embedding.weight", "head.weight") and tensor.shape[0] < rows:
            tensor = torch.nn.functional.pad(tensor, (0, 0, 0, rows - tensor.shape[0]))
        if tensor.shape != expected[ours].shape:
            raise DamagedError(
                f"tensor {theirs[0]!r} gives shape {tuple(tensor.shape)}, config.json says "
                f"{tuple(expected[ours].shape)}; the two files do not belong together"
            )
        state[ours] = tensor.contiguous().clone()
    return state


def to_hf(shape: ModelConfig, state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Translate our shape and state dict into a ``config.json`` and its tensors, padding stripped.

    Raises:
        UsageError: Hugging Face has no model of this shape.
    """
    kind = next((kind for kind in _LAYERS if _is_kind(kind, shape)), None)
    if kind is None:
        raise UsageError(
            f"no Hugging Face layout fits this model; exportable are: {', '.join(_LAYERS)}; "
            "use the run's own safetensors file instead"
        )
    tensors: dict[str, Tensor] = {}
    for ours, theirs in _names(kind, shape).items():
        tensor = state[ours]
        if ours in ("embedding.weight", "head.weight"):
            tensor = tensor[: shape.vocab_size]
        parts = torch.split(tensor, _part_sizes(shape, ours)) if len(theirs) > 1 else (tensor,)
        for name, part in zip(theirs, parts, strict=True):
            tensors[name] = (part.T if _transposed(kind, ours) else part).contiguous().clone()
    config = {theirs: getattr(shape, ours) for theirs, ours in _FIELDS[kind].items()}
    config |= {"model_type": kind, "architectures": [_ARCHITECTURE[kind]], "dtype": "float32"}
    config["activation_function" if kind == "gpt2" else "hidden_act"] = _ACTIVATION[kind]
    if kind == "gpt2":
        config |= {"attn_pdrop": shape.dropout, "embd_pdrop": shape.dropout, "tie_word_embeddings": True}
    if kind == "gemma3_text":
        config["hidden_activation"] = config.pop("hidden_act")
        config["query_pre_attn_scalar"] = round(shape.attention_scale**-2)
        config["layer_types"] = [
            "full_attention" if (i + 1) % shape.global_every == 0 else "sliding_attention"
            for i in range(shape.num_layers)
        ]
    return config, tensors


def _is_kind(kind: str, shape: ModelConfig) -> bool:
    wanted = _FIXED[kind]
    plain = ModelConfig()
    flags = ("norm_offset", "post_norm", "qk_norm", "scale_embedding")
    if any(getattr(shape, flag) != wanted.get(flag, False) for flag in flags):
        return False
    if (kind == "gemma3_text") != bool(shape.sliding_window and shape.global_every):
        return False
    own_scale = shape.attention_scale in (plain.attention_scale, shape.head_dim**-0.5)
    whole = kind != "gpt2" or (shape.num_kv_heads in (0, shape.num_heads) and own_scale)
    return whole and all(getattr(shape, name) == value for name, value in wanted.items())


def _part_sizes(shape: ModelConfig, ours: str) -> list[int]:
    if ours.endswith("qkv.weight"):
        return [n * shape.head_dim for n in (shape.num_heads, shape.num_kv_heads, shape.num_kv_heads)]
    return [shape.ffn_size, shape.ffn_size]


def import_hf(directory: Path) -> GPT:
    """Build a model from ``config.json`` and ``model.safetensors`` in ``directory``.

    Raises:
        StorageError: a file cannot be read. DamagedError: a file is not what it must be.
    """
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        tensors = load_file(directory / "model.safetensors")
    except OSError as error:
        raise StorageError(f"cannot read the model in {directory}: {error}") from error
    except (ValueError, SafetensorError) as error:
        raise DamagedError(f"the model in {directory} is damaged: {error}; download it again") from error
    shape, state = from_hf(config, tensors)
    model = GPT(shape)
    model.load_state_dict(state)
    return model


def export_hf(model: GPT, directory: Path) -> None:
    """Write ``config.json`` and ``model.safetensors`` for `transformers`' ``from_pretrained``."""
    config, tensors = to_hf(model.config, model.state_dict())
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
