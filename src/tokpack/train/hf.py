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
from tokpack.train.hf_layout import ACTIVATION, ARCHITECTURE, DEFAULTS, FIELDS, FIXED, LAYERS, OUTER, PREFIX
from tokpack.train.model import GPT
from tokpack.train.shape import complete

__all__ = ["export_hf", "from_hf", "import_hf", "to_hf"]


def from_hf(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Translate a ``config.json`` and its tensors into our shape and state dict.

    Raises:
        UsageError: an architecture or variant that this model does not have.
        DamagedError: a tensor is missing.
    """
    kind = str(config.get("model_type"))
    if kind not in LAYERS:
        raise UsageError(f"model_type {kind!r} is not supported; supported: {', '.join(LAYERS)}")
    values = DEFAULTS[kind] | dict(config)
    _flatten_rope(values)
    _refuse_variants(kind, values)
    known = {ours: values[theirs] for theirs, ours in FIELDS[kind].items() if values.get(theirs) is not None}
    shape = ModelConfig(**FIXED[kind], **known)
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
        "hidden_act", ACTIVATION[kind]
    )
    for name, wrong in {
        "rope_scaling": bool(values.get("rope_scaling")),
        "attention_bias": bool(values.get("attention_bias")),
        "mlp_bias": bool(values.get("mlp_bias")),
        "scale_attn_by_inverse_layer_idx": bool(values.get("scale_attn_by_inverse_layer_idx")),
        "final_logit_softcapping": bool(values.get("final_logit_softcapping")),
        "attn_logit_softcapping": bool(values.get("attn_logit_softcapping")),
        "the activation": activation != ACTIVATION[kind],
    }.items():
        if wrong:
            raise UsageError(f"this {kind} variant sets {name}, which tokpack's model does not have")


def _names(kind: str, shape: ModelConfig) -> dict[str, tuple[str, ...]]:
    """Our state dict's names -> theirs, all layers."""
    names: dict[str, tuple[str, ...]] = {
        ours: (name,) for ours, name in OUTER[kind].items() if ours != "head.weight" or not shape.tied
    }
    for layer in range(shape.num_layers):
        for ours, theirs in LAYERS[kind].items():
            names[f"blocks.{layer}.{ours}"] = tuple(f"{PREFIX[kind]}.{layer}.{name}" for name in theirs)
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
    kind = next((kind for kind in LAYERS if _is_kind(kind, shape)), None)
    if kind is None:
        raise UsageError(
            f"no Hugging Face layout fits this model; exportable are: {', '.join(LAYERS)}; "
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
    config = {theirs: getattr(shape, ours) for theirs, ours in FIELDS[kind].items()}
    config |= {"model_type": kind, "architectures": [ARCHITECTURE[kind]], "dtype": "float32"}
    config["activation_function" if kind == "gpt2" else "hidden_act"] = ACTIVATION[kind]
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
    wanted = FIXED[kind]
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
