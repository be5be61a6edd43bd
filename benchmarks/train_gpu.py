"""The training loop on one CUDA GPU: tokens per second, and where they are lost.

For each preset, in one process and in turns: the loop with all logging on; its own bare compiled step on a
batch that never changes; and code in nanoGPT's manner. Then once each: packed rows with documents kept apart
against packed rows without, the time to the first step, and how long a save holds training up.

    python benchmarks/train_gpu.py [--presets gpt2-124m,gpt2-350m,gpt2-1558m] [--rounds 12] [--json FILE]
    python benchmarks/train_gpu.py --device cpu --presets tiny --batch-size 4 --seq-len 64   # does it run?

Shares of peak count operations as nanoGPT does (6 × parameters + 12 × layers × width × seq_len, not causal),
against the published peak and against a matrix product measured in the same process.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from nanogpt_style import NanoStyle
from training import BareStep, machine, make_dataset, open_for, settings_for, take_turns

from tokpack.train.checkpoint import Checkpoints
from tokpack.train.shape import padded_vocab_size


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--presets", default="gpt2-124m,gpt2-350m,gpt2-1558m")
    parser.add_argument("--batch-size", type=int, default=0, help="0: the preset's")
    parser.add_argument("--seq-len", type=int, default=0, help="0: the preset's")
    parser.add_argument("--vocab-size", type=int, default=50257)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results: dict[str, object] = {"machine": machine() | {"device": device_name(given.device)}}
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(Path(folder), 64 if given.device != "cpu" else 2)
        for preset in given.presets.split(","):
            results[preset] = measure(preset, dataset, Path(folder) / preset, given)
            print(json.dumps({preset: results[preset]}, indent=1), flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n")


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


def measured_matmul(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product."""
    size = 8192 if device.type == "cuda" else 512
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = 0.0
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(10):
            b = a @ a
        b[0, 0].item()
        best = max(best, 10 * 2 * size**3 / (time.perf_counter() - begin))
    return best


def assignments(dataset: Path, folder: Path, given: argparse.Namespace) -> list[str]:
    common = [
        f"data.dataset='{dataset}'",
        f"log.run_dir='{folder}'",
        f"log.every={given.steps}",
        "log.trackers=['jsonl', 'csv']",
        f"train.device='{given.device}'",
        "train.compile='on'",
        f"train.max_iters={given.steps * (given.rounds + 3)}",
        f"model.vocab_size={given.vocab_size}",
        "model.bias=false",
        "eval.every=0",
        "sample.every=0",
        "checkpoint.every=1000000",
    ]
    common += [f"data.batch_size={given.batch_size}"] if given.batch_size else []
    return common + ([f"data.seq_len={given.seq_len}"] if given.seq_len else [])


def measure(preset: str, dataset: Path, folder: Path, given: argparse.Namespace) -> dict[str, object]:
    base = assignments(dataset, folder, given)
    plain = measure_plain(preset, dataset, folder, base, given)  # its memory is free again from here on
    return plain | isolation_price(preset, base, given)


def measure_plain(
    preset: str, dataset: Path, folder: Path, base: list[str], given: argparse.Namespace
) -> dict[str, object]:
    begin = time.perf_counter()
    run = open_for(settings_for(preset, *base, "log.name=plain"))
    bare = BareStep(run)
    bare.steps(1)
    first_step = time.perf_counter() - begin
    model, data = run.settings.model, run.settings.data
    peer = NanoStyle(
        dataset / "train.bin",
        device=run.compute.device,
        dtype=run.compute.dtype,
        compiled=True,
        batch_size=data.batch_size,
        seq_len=data.seq_len,
        vocab_size=padded_vocab_size(model),
        layers=model.num_layers,
        heads=model.num_heads,
        width=model.hidden_size,
    )
    peer.steps(3)
    sides = {"bare_step": lambda: bare.steps(given.steps), "nanogpt_style": lambda: peer.steps(given.steps)}
    turns = take_turns(run, sides)
    tokens = given.steps * data.batch_size * data.seq_len
    rate = tokens / turns.seconds("loop")
    matmul = measured_matmul(run.compute.device, run.compute.dtype)
    stall = save_stall(run, folder)
    return {
        "tokens_per_s": {name: round(tokens / turns.seconds(name)) for name in turns.wall},
        "mfu_of_published_peak": round(rate * run.flops_per_token / float(run.facts["peak_flops"]), 4),
        "share_of_measured_matmul": round(rate * run.flops_per_token / matmul, 4),
        "speedup_over_nanogpt_style": round(turns.ratio("nanogpt_style"), 3),
        "share_of_bare_step": round(turns.ratio("bare_step"), 4),
        "data_wait_percent": round(100 * sorted(turns.waits)[len(turns.waits) // 2], 3),
        "seconds_to_first_step": round(first_step, 1),
        "save_stall_seconds": round(stall, 3),
        "attention": run.facts["attention"],
        "dtype": run.facts["dtype"],
    }


def save_stall(run: object, folder: Path) -> float:
    """How long training is held up by a background save, once its buffers exist."""
    checkpoints = Checkpoints(folder / "stall", keep=1, background=True)
    for _ in range(2):
        begin = time.perf_counter()
        checkpoints.save(run.snapshot())  # type: ignore[attr-defined]
        stall = time.perf_counter() - begin
        checkpoints.wait()
    checkpoints.close()
    return stall


def isolation_price(preset: str, base: list[str], given: argparse.Namespace) -> dict[str, object]:
    """Packed rows whose documents do not see each other, against the same rows where they do."""
    packed = [*base, "data.sampler=packed"]
    mixing = BareStep(
        open_for(settings_for(preset, *packed, "data.isolate_documents=false", "log.name=mixed"))
    )
    mixing.steps(3)
    run = open_for(settings_for(preset, *packed, "log.name=apart"))
    turns = take_turns(run, {"mixing": lambda: mixing.steps(given.steps)})
    return {
        "isolation_price_percent": round(100 * (1 / turns.ratio("mixing") - 1), 2),
        "isolation_attention": run.facts["attention"],
    }


if __name__ == "__main__":
    main()
