"""The training loop on a CPU: against code in nanoGPT's manner, and against its own bare compiled step.

The model is the one of nanoGPT's CPU example: 4 layers, 4 heads, 128 wide, rows of 64, 12 to a batch, no
biases. On a CPU nanoGPT computes in float32, and its readme advises against compiling there. All sides take
turns of a few dozen steps in one process, on the same data; medians over rounds, and ratios within a round,
so that other load on the machine hits all sides alike.

    python benchmarks/train_cpu.py [--rounds 40] [--steps 50] [--threads 1] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from nanogpt_style import NanoStyle
from training import BareStep, machine, make_dataset, open_for, settings_for, take_turns

VOCAB, SEQ_LEN, BATCH = 257, 64, 12


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--dtype", default="auto", help="of our activations; the peers' stands in their names"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), rounds=given.rounds, steps=given.steps, dtype=given.dtype)
    print(json.dumps(result, indent=1))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")


def measure(folder: Path, *, rounds: int, steps: int, dtype: str) -> dict[str, object]:
    dataset = make_dataset(folder, 4)
    run = open_for(
        settings_for(
            "tiny",
            f"data.dataset='{dataset}'",
            f"log.run_dir='{folder}/runs'",
            f"log.every={steps}",
            "log.trackers=['jsonl', 'csv', 'tensorboard']",
            f"data.seq_len={SEQ_LEN}",
            f"data.batch_size={BATCH}",
            "model.bias=false",
            "train.compile=on",
            "train.device=cpu",
            f"train.dtype={dtype}",
            f"train.max_iters={steps * (rounds + 3)}",
            "eval.every=0",
            "sample.every=0",
            "checkpoint.every=1000000",
        )
    )
    shape = {"vocab_size": 320, "seq_len": SEQ_LEN, "layers": 4, "heads": 4, "width": 128}
    common = {"device": torch.device("cpu"), "batch_size": BATCH, **shape}
    peers = {
        f"nanogpt_style_{name}": NanoStyle(dataset / "train.bin", compiled=compiled, dtype=kind, **common)
        for name, compiled, kind in (
            ("as_its_readme_says", False, torch.float32),
            ("compiled", True, torch.float32),
            ("compiled_and_bfloat16", True, torch.bfloat16),
        )
    }
    bare = BareStep(run)
    for side in (bare, *peers.values()):
        side.steps(5)  # compiling is no part of the comparison
    sides = {"bare_step": lambda: bare.steps(steps)}
    sides |= {name: (lambda peer=peer: peer.steps(steps)) for name, peer in peers.items()}
    turns = take_turns(run, sides)
    tokens = steps * BATCH * SEQ_LEN
    return {
        "machine": machine(),
        "parameters": run.facts["parameters"],
        "our_dtype": run.facts["dtype"],
        "rounds": len(turns.wall["loop"]),
        "tokens_per_s": {name: round(tokens / turns.seconds(name)) for name in turns.wall},
        "speedup_over": {name: round(turns.ratio(name), 3) for name in peers},
        "speedup_over_in_cpu_time": {name: round(turns.ratio(name, cpu=True), 3) for name in peers},
        "loop_overhead_percent": round(100 * (1 / turns.ratio("bare_step") - 1), 2),
        "loop_overhead_percent_in_cpu_time": round(100 * (1 / turns.ratio("bare_step", cpu=True) - 1), 2),
        "data_wait_percent": round(100 * sorted(turns.waits)[len(turns.waits) // 2], 3),
    }


if __name__ == "__main__":
    main()
