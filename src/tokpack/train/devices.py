"""Where a run computes: processes, device, precision, what fits and how fast it could be."""

from __future__ import annotations

import math
import os
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from tokpack.errors import UsageError
from tokpack.train.config import ModelConfig, Settings
from tokpack.train.loss import chunk_for
from tokpack.train.shape import count_parameters, padded_vocab_size

__all__ = [
    "Compute",
    "available_bytes",
    "check_memory",
    "estimate_bytes",
    "find_device",
    "join",
    "peak_flops",
]

#: Dense 16-bit floating-point operations per second, from the vendors' sheets; names as torch gives them.
_PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "GH200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A10G": 70e12,
    "L40S": 362e12,
    "L4": 121e12,
    "4090": 165e12,
    "3090": 71e12,
}


@dataclass(frozen=True, slots=True)
class Compute:
    """This process among all of the run, and the device it uses."""

    device: torch.device
    dtype: torch.dtype
    rank: int = 0
    world_size: int = 1
    control: dist.ProcessGroup | None = None  # gloo, for decisions on the host that must be the same

    def autocast(self) -> AbstractContextManager[object]:
        """Compute activations in the run's dtype; weights stay float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def agree(self, wish: bool) -> bool:
        """Return whether any rank wishes it; every rank must ask."""
        if self.control is None:
            return wish
        flag = torch.tensor(int(wish))
        dist.all_reduce(flag, dist.ReduceOp.MAX, group=self.control)
        return bool(flag)

    def sum(self, value: Tensor) -> Tensor:
        """Add up over ranks, in place; nothing waits for the device."""
        if self.world_size > 1:
            dist.all_reduce(value)
        return value

    def leave(self) -> None:
        """Part from the other processes."""
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def join(settings: Settings) -> Compute:
    """Find the device and, under `torchrun`, the other processes.

    Raises:
        UsageError: the device asked for is not there.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    device = find_device(settings.train.device, local_rank if world_size > 1 else None)
    dtype = _dtype(settings.train.dtype, device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
    if settings.train.deterministic:
        from torch._inductor import config as inductor

        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        if hasattr(inductor, "deterministic"):  # no choice of kernels by the clock
            inductor.deterministic = True
    if world_size == 1:
        return Compute(device, dtype)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return Compute(device, dtype, rank, world_size, dist.new_group(backend="gloo"))


def find_device(name: str, local_rank: int | None = None) -> torch.device:
    """Return a device by name; ``auto`` is CUDA where there is some. Raises UsageError if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}; use cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r} is not supported; use cpu, cuda or cuda:N")
    if device.type == "cpu":
        return device
    if not torch.cuda.is_available():
        raise UsageError(
            f"device {name!r} is not there: torch {torch.__version__} sees no CUDA; use --device cpu"
        )
    index = local_rank if local_rank is not None else device.index or 0
    if index >= torch.cuda.device_count():
        raise UsageError(
            f"device cuda:{index} is not there: this machine has {torch.cuda.device_count()} CUDA device(s); "
            "use a lower number, or start fewer processes"
        )
    return torch.device("cuda", index)


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        narrow = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_multiplies_bfloat16()
        return torch.bfloat16 if narrow else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def _cpu_multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for it: matrix products are then several times faster."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def estimate_bytes(
    settings: Settings, config: ModelConfig, *, dtype: torch.dtype, device: torch.device
) -> dict[str, int]:
    """Estimate what training takes on one device, by part, before anything is allocated.

    Activations follow Korthikanti et al. (2022), 17 values per hidden unit, token and layer without
    attention scores, plus the feed-forward part's own width.
    """
    parameters = count_parameters(config)
    tokens = settings.data.batch_size * settings.data.seq_len
    width = dtype.itemsize
    per_layer = tokens * (9 * config.hidden_size + 2 * config.ffn_size) * width
    layers = 1 if settings.train.activation_checkpointing else config.num_layers
    kept = config.num_layers * tokens * config.hidden_size * width
    vocab = padded_vocab_size(config)
    asked = settings.train.loss_chunk_tokens
    chunk = chunk_for(asked, tokens=tokens, vocab_size=vocab, device=device) or tokens
    return {
        "weights": 4 * parameters,
        "gradients": 4 * parameters,
        "optimizer": 8 * parameters,
        "activations": per_layer * layers + kept,
        "logits": chunk * vocab * (4 + 4 + width),
    }


def available_bytes(device: torch.device) -> int | None:
    """Return the memory that is free now, or None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return None
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def check_memory(settings: Settings, config: ModelConfig, compute: Compute) -> int:
    """Return the estimate in bytes.

    Raises:
        UsageError: it is more than the device has free; says what to change.
    """
    parts = _bytes_per_device(settings, config, compute)
    total, free = sum(parts.values()), available_bytes(compute.device)
    if free is None or total <= free:
        return total
    advice = ["a smaller --preset"]
    spared = replace(settings, train=replace(settings.train, activation_checkpointing=True))
    if sum(_bytes_per_device(spared, config, compute).values()) <= free:
        advice.insert(0, "--set train.activation_checkpointing=true")
    fixed = parts["weights"] + parts["gradients"] + parts["optimizer"]
    per_row = (total - fixed) / settings.data.batch_size
    if (rows := int((free - fixed) / per_row)) >= 1:
        whole = settings.data.global_batch_size or settings.data.batch_size * compute.world_size
        advice.insert(0, f"--batch-size {1 << int(math.log2(rows))} --set data.global_batch_size={whole}")
    shown = ", ".join(f"{name} {size / 2**30:.1f}" for name, size in parts.items())
    raise UsageError(
        f"this needs about {total / 2**30:.1f} GiB ({shown}), and {compute.device} has "
        f"{free / 2**30:.1f} GiB free; use {' or '.join(advice)}"
    )


def _bytes_per_device(settings: Settings, config: ModelConfig, compute: Compute) -> dict[str, int]:
    parts = estimate_bytes(settings, config, dtype=compute.dtype, device=compute.device)
    if settings.train.parallel == "fsdp":
        for name in ("weights", "gradients", "optimizer"):
            parts[name] //= compute.world_size
    return parts


def peak_flops(compute: Compute) -> tuple[float, str]:
    """Return operations per second to measure against, and where the number is from.

    A known GPU's published peak; anything else is measured by multiplying matrices for a moment.
    """
    if compute.device.type == "cuda":
        name = torch.cuda.get_device_name(compute.device)
        for known, peak in _PEAKS.items():
            if known in name and compute.dtype != torch.float32:
                return peak, f"{known}'s published peak"
    size, rounds = (4096, 5) if compute.device.type == "cuda" else (512, 4)
    a = torch.randn(size, size, device=compute.device, dtype=compute.dtype)
    best = 0.0
    for _ in range(rounds):
        begin = time.perf_counter()
        b = a @ a @ a
        b[0, 0].item()  # wait for the device
        best = max(best, 2 * 2 * size**3 / (time.perf_counter() - begin))
    return best, "a matrix product measured here"
