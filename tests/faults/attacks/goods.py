"""The good things that attacks begin with, each made once."""

from __future__ import annotations

import json
from pathlib import Path

from scenarios import OUTPUT, encode_scenario

DATASETS = ("bin", "npy", "jsonl", "jsonl-gz", "jsonl-zst", "parquet", "arrow", "megatron")
TOKENIZER = {
    "version": "1.0",
    "model": {"type": "BPE", "vocab": {letter: n for n, letter in enumerate("atex ")}, "merges": []},
    "added_tokens": [],
}


def make_all(folder: Path, formats: set[str]) -> dict[str, Path]:
    """Make one of each below ``folder``."""
    made: dict[str, Path] = {}
    for name in DATASETS:
        if name not in formats:
            continue
        work = folder / name
        work.mkdir()
        scenario = encode_scenario(name)
        scenario.prepare(work)
        scenario.act(work)
        made[name] = work / OUTPUT
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (tokenizer / "tokenizer_config.json").write_text('{"eos_token": "a"}')
    made["tokenizer"] = tokenizer
    source = folder / "source"
    source.mkdir()
    made["source"] = source
    run = folder / "run"
    run.mkdir()
    _checkpoint(run)
    made["checkpoint"] = run
    return made


def _checkpoint(run: Path) -> None:
    import torch

    from tokpack.train.checkpoint import Checkpoint, Checkpoints

    value = torch.zeros(16)
    saved = Checkpoint(1, {"w": value}, {"w/exp_avg": value}, {"torch": value.byte()}, {"step": 1})
    checkpoints = Checkpoints(run / "checkpoints", keep=2, background=False)
    checkpoints.save(saved, best=True)
