"""The peer: a small GPT and its loop in the manner of nanoGPT, written anew for comparison.

What is kept of that manner: one memory map opened for each batch, windows drawn at random and widened to
int64 on the CPU, a model of plain modules, `scaled_dot_product_attention`, AdamW fused on CUDA only,
autocast, `torch.compile`, clipping, and the loss read back at every logging step.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        q, k, v = self.qkv(x).split(width, dim=2)
        q, k, v = (t.view(rows, length, self.heads, width // self.heads).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).contiguous().view(rows, length, width))


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, None, 1e-5)


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = Norm(width), Attention(width, heads), Norm(width)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    def __init__(self, *, vocab_size: int, seq_len: int, layers: int, heads: int, width: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, width), nn.Embedding(seq_len, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = Norm(width)
        self.head = nn.Linear(width, vocab_size, bias=False)
        self.tokens.weight = self.head.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                scale = math.sqrt(2 * layers) if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(parameter, std=0.02 / scale)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for layer in self.layers:
            x = layer(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)


class NanoStyle:
    """Model, data and optimizer; `steps` trains on."""

    def __init__(
        self,
        data: Path,
        *,
        device: torch.device,
        dtype: torch.dtype,
        compiled: bool,
        batch_size: int,
        seq_len: int,
        vocab_size: int,
        layers: int,
        heads: int,
        width: int,
    ) -> None:
        self.data, self.device, self.batch_size, self.seq_len = data, device, batch_size, seq_len
        model = Model(vocab_size=vocab_size, seq_len=seq_len, layers=layers, heads=heads, width=width)
        self.model = model.to(device)
        decay = [p for p in self.model.parameters() if p.dim() >= 2]
        rest = [p for p in self.model.parameters() if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        extra = {"fused": True} if device.type == "cuda" else {}
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), **extra)
        self.autocast = nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
        self.call = torch.compile(self.model) if compiled else self.model
        self.iteration = 0
        self.batch = self.get_batch()

    def get_batch(self) -> tuple[Tensor, Tensor]:
        data = np.memmap(self.data, dtype=np.uint16, mode="r")
        starts = torch.randint(len(data) - self.seq_len, (self.batch_size,))
        x = torch.stack([torch.from_numpy((data[i : i + self.seq_len]).astype(np.int64)) for i in starts])
        y = torch.stack(
            [torch.from_numpy((data[i + 1 : i + 1 + self.seq_len]).astype(np.int64)) for i in starts]
        )
        if self.device.type == "cuda":
            return (
                x.pin_memory().to(self.device, non_blocking=True),
                y.pin_memory().to(self.device, non_blocking=True),
            )
        return x, y

    def steps(self, count: int) -> None:
        for _ in range(count):
            for group in self.optimizer.param_groups:
                group["lr"] = 1e-3 * (0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, self.iteration / 1e5))))
            with self.autocast:
                loss = self.call(*self.batch)
            self.batch = self.get_batch()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.iteration += 1
            if self.iteration % 10 == 0:
                loss.item()
