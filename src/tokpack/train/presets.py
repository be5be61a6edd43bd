"""Models by name. A preset is a layer of settings: anything in it can be overridden."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tokpack.errors import UsageError

__all__ = ["PRESETS", "preset_values"]


def _gpt2(num_layers: int, hidden_size: int, num_heads: int, *, batch_size: int, lr: float) -> dict[str, Any]:
    return {
        "model": {"num_layers": num_layers, "hidden_size": hidden_size, "num_heads": num_heads},
        "data": {"seq_len": 1024, "batch_size": batch_size},
        "optim": {"lr": lr},
    }


_LLAMA: dict[str, Any] = {
    "norm": "rms",
    "position": "rope",
    "activation": "swiglu",
    "bias": False,
}

#: Layers of settings by name. Sizes follow the models they are named after.
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # A minute on two CPU cores gives readable words.
        "tiny": {
            "model": {"num_layers": 4, "hidden_size": 128, "num_heads": 4},
            "data": {"seq_len": 128, "batch_size": 16},
            "optim": {"lr": 2e-3},
        },
        # Ten million parameters: the size of nanoGPT's character model, for a first run on any GPU.
        "small": {
            "model": {"num_layers": 6, "hidden_size": 384, "num_heads": 6},
            "data": {"seq_len": 256, "batch_size": 64},
            "optim": {"lr": 1e-3},
        },
        "gpt2-124m": _gpt2(12, 768, 12, batch_size=64, lr=6e-4),
        "gpt2-350m": _gpt2(24, 1024, 16, batch_size=32, lr=3e-4),
        "gpt2-774m": _gpt2(36, 1280, 20, batch_size=16, lr=2.5e-4),
        "gpt2-1558m": _gpt2(48, 1600, 25, batch_size=16, lr=2e-4),
        "llama-tiny": {
            "model": {
                **_LLAMA,
                "num_layers": 4,
                "hidden_size": 128,
                "num_heads": 4,
                "num_kv_heads": 2,
                "ffn_size": 352,
            },
            "data": {"seq_len": 128, "batch_size": 16},
            "optim": {"lr": 2e-3},
        },
        "llama-150m": {
            "model": {
                **_LLAMA,
                "tied": False,
                "num_layers": 12,
                "hidden_size": 768,
                "num_heads": 12,
                "num_kv_heads": 4,
                "ffn_size": 2048,
            },
            "data": {"seq_len": 1024, "batch_size": 64},
            "optim": {"lr": 6e-4},
        },
        # The shape of Llama 3.2 1B.
        "llama-1b": {
            "model": {
                **_LLAMA,
                "num_layers": 16,
                "hidden_size": 2048,
                "num_heads": 32,
                "num_kv_heads": 8,
                "ffn_size": 8192,
                "rope_theta": 500_000.0,
            },
            "data": {"seq_len": 2048, "batch_size": 8},
            "optim": {"lr": 3e-4},
        },
        # The shape of Gemma 3 270M: five sliding-window layers for each global one.
        "gemma3-270m": {
            "model": {
                **_LLAMA,
                "num_layers": 18,
                "hidden_size": 640,
                "num_heads": 4,
                "num_kv_heads": 1,
                "head_dim": 256,
                "ffn_size": 2048,
                "activation": "geglu",
                "norm_eps": 1e-6,
                "norm_offset": True,
                "post_norm": True,
                "qk_norm": True,
                "sliding_window": 512,
                "global_every": 6,
                "rope_theta": 1_000_000.0,
                "rope_theta_local": 10_000.0,
                "scale_embedding": True,
            },
            "data": {"seq_len": 1024, "batch_size": 16},
            "optim": {"lr": 5e-4},
        },
    }
)


def preset_values(name: str) -> Mapping[str, Any]:
    """Return the settings of a preset.

    Raises:
        UsageError: there is none of this name.
    """
    if name in PRESETS:
        return {"preset": name, **PRESETS[name]}
    close = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"choose one of: {', '.join(PRESETS)}"
    raise UsageError(f"unknown preset {name!r}; {hint}")
