"""The loop against plain PyTorch, against itself in other batches, and when losses go wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tokpack.batches import Batch
from tokpack.encoding.options import EncodeOptions
from tokpack.encoding.run import encode_job
from tokpack.errors import DamagedError
from tokpack.protocols import SourceOptions
from tokpack.train import loop as loop_module
from tokpack.train.checkpoint import load_checkpoint
from tokpack.train.loop import Outcome
from tokpack.train.runs import Run

Start = Callable[..., Run]
Finish = Callable[..., Outcome]
Records = Callable[[Path], list[dict[str, Any]]]


def losses(records: list[dict[str, Any]]) -> list[float]:
    return [record["loss"] for record in records if "loss" in record]


def plain_loop(run: Run, steps: int) -> list[float]:
    """GPT-2, AdamW and a cosine in plain PyTorch, without a line of tokpack's model, loss or optimizer."""
    config, weights = run.settings, {k: v.clone() for k, v in run.model.state_dict().items()}
    params = {name: nn.Parameter(value) for name, value in weights.items()}
    heads, vocab = config.model.num_heads, config.model.vocab_size

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], params[f"{name}.weight"], params[f"{name}.bias"])

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ params[f"{name}.weight"].T + params[f"{name}.bias"]

    def logits(ids: Tensor) -> Tensor:
        rows, length = ids.shape
        x = params["embedding.weight"][ids] + params["position.weight"][:length]
        hidden = x.shape[-1]
        future = torch.ones(length, length).triu(1).bool()
        for layer in range(config.model.num_layers):
            block = f"blocks.{layer}"
            qkv = linear(norm(x, f"{block}.attention_norm"), f"{block}.attention.qkv")
            q, k, v = (p.view(rows, length, heads, -1).transpose(1, 2) for p in qkv.split(hidden, dim=-1))
            scores = (q @ k.transpose(-1, -2) / math.sqrt(hidden // heads)).masked_fill(future, -math.inf)
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(rows, length, hidden)
            x = x + linear(mixed, f"{block}.attention.out")
            wide = linear(norm(x, f"{block}.ffn_norm"), f"{block}.ffn.up")
            x = x + linear(F.gelu(wide, approximate="tanh"), f"{block}.ffn.down")
        return (norm(x, "norm") @ params["embedding.weight"].T)[..., :vocab]

    decayed = [p for p in params.values() if p.dim() == 2]
    others = [p for p in params.values() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.optim.lr, betas=(0.9, 0.95), foreach=False, fused=False)
    rows_per_step, seq_len, seen = config.data.global_batch_size, config.data.seq_len, []
    warmup = max(steps // 20, 0)
    for step in range(steps):
        progress = (step - warmup) / (steps - warmup)
        lr = config.optim.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = config.optim.lr * (step + 1) / warmup if step < warmup else lr
        batch = Batch.empty(rows_per_step, seq_len, run.sampler.dtype)
        run.sampler.fill(np.arange(step * rows_per_step, (step + 1) * rows_per_step), batch)
        window = torch.from_numpy(batch.tokens.astype(np.int64))
        loss = F.cross_entropy(logits(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(params.values(), 1.0)
        optimizer.step()
        seen.append(loss.item())
    return seen


def test_tiny_preset_follows_a_plain_loop_step_by_step(
    start: Start, finish: Finish, records: Records
) -> None:
    tiny = ("preset=tiny", "model.num_layers=4", "model.hidden_size=128", "model.num_heads=4")
    run = start(*tiny, "data.seq_len=32", "train.max_iters=40", "optim.lr=5e-4", "eval.every=0")
    expected = plain_loop(run, 40)
    finish(run)
    found = losses(records(run.folder.path))
    assert found[-1] < found[0] - 1.5  # something was learnt
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def gradients(run: Run, finish: Finish) -> dict[str, Tensor]:
    """The gradients of the first step, before clipping, as the loop accumulates them."""
    found: dict[str, Tensor] = {}

    def record(_finite: Tensor) -> None:
        for parameter, name in run.optimizers.names.items():
            assert parameter.grad is not None
            found[name] = parameter.grad.clone()

    run.optimizers.step = record  # type: ignore[method-assign]
    finish(run)
    return found


@pytest.mark.parametrize("batch_size", [4, 2, 1])
def test_accumulation_equals_the_full_batch(
    start: Start, finish: Finish, batch_size: int, tmp_path: Path, records: Records
) -> None:
    # Documents longer than half a row: each row holds one, and padding of its own length.
    chance = random.Random(3)
    lines = ["".join(chance.choices("abcdefgh ", k=chance.randint(33, 62))) for _ in range(60)]
    (tmp_path / "long.txt").write_text("\n".join(lines))
    encode_job(
        [str(tmp_path / "long.txt")],
        EncodeOptions(tokenizer="byte", source=SourceOptions(split="lines")),
        output=tmp_path / "long",
    )
    here = f"data.dataset='{tmp_path / 'long'}'"
    options = (
        here,
        "data.sampler=packed",
        "data.seq_len=64",
        "train.max_iters=1",
        "eval.every=0",
        "optim.clip=0",
    )
    whole = start(*options, "data.batch_size=8")
    valid = (next(whole.loader).labels != -100).sum(dim=1)
    whole.loader.seek(0)
    assert len(set(valid.tolist())) > 3  # rows count differently
    expected = gradients(whole, finish)
    parts = start(
        *options, f"data.batch_size={batch_size}", "data.global_batch_size=8", root=tmp_path / "parts"
    )
    assert parts.loader.share.micro_batches == 8 // batch_size
    found = gradients(parts, finish)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-6 * max(gradient.norm(), 1e-3), name
    loss, other = (losses(records(run.folder.path))[0] for run in (whole, parts))
    assert other == pytest.approx(loss, rel=1e-6)


def spoil(run: Run, steps: range) -> None:
    """Make the loss of these steps not a number."""
    module, made = run.module.forward, iter(range(10**6))

    def forward(*arguments: Any) -> Tensor:
        loss: Tensor = module(*arguments)
        return loss * math.nan if run.module.training and next(made) in steps else loss

    run.module.forward = forward  # type: ignore[method-assign]


def test_bad_steps_change_nothing_and_are_reported(start: Start, finish: Finish, records: Records) -> None:
    run = start("eval.every=0", "checkpoint.every=1", "checkpoint.keep=99")
    spoil(run, range(4, 6))
    outcome = finish(run)
    assert outcome.step == 12
    assert math.isfinite(outcome.loss)
    notes = [record["note"] for record in records(run.folder.path) if "note" in record]
    assert len(notes) == 2
    assert notes[0].startswith(
        "step 5: the loss is nan, its gradient's norm nan; the weights were left as they were"
    )
    assert "rows 16 to 19, documents" in notes[0]
    before, after = (load_checkpoint(run.folder.path, step) for step in ("4", "7"))
    assert after.optimizer["norm.weight/step"] == before.optimizer["norm.weight/step"] + 1
    names = sorted(path.name for path in (run.folder.path / "checkpoints").glob("step-*"))
    assert "step-00000005" not in names  # a run of bad steps saves nothing
    assert "step-00000006" not in names


def test_bad_steps_in_a_row_end_the_run(start: Start, finish: Finish) -> None:
    run = start("checkpoint.every=1", "train.stop_after_bad_steps=3", "train.max_iters=50")
    spoil(run, range(6, 99))
    with pytest.raises(DamagedError, match=r"not finite for 3 steps in a row.*up to step 6 are untouched"):
        finish(run)
    kept = load_checkpoint(run.folder.path)
    assert kept.step == 6
    assert all(tensor.isfinite().all() for tensor in kept.model.values())


def test_leaping_loss_names_its_documents(start: Start, finish: Finish, records: Records) -> None:
    run = start("train.max_iters=40", "eval.every=0", "optim.lr=1e-4")
    module, made = run.module.forward, iter(range(10**6))
    run.module.forward = lambda *a: module(*a) * (5.0 if next(made) == 30 else 1.0)  # type: ignore[method-assign]
    finish(run)
    notes = [record["note"] for record in records(run.folder.path) if "note" in record]
    assert len(notes) == 1
    assert notes[0].startswith("step 31: the loss leapt to")
    rows = range(120, 124)
    wanted = set()
    for row in rows:
        for span in run.sampler.trace(row):
            edges = span.store.offsets
            wanted |= {i for i in range(len(edges) - 1) if edges[i] < span.stop and edges[i + 1] > span.start}
    named = notes[0].split("documents ")[1].replace(",", "").replace("and", "").replace("more", "").split()
    assert set(map(int, named[:5])) <= wanted


def test_patience_ends_a_run(start: Start, finish: Finish, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([3.0, 3.1, 2.9, 2.9, 3.0])
    monkeypatch.setattr(loop_module, "evaluate", lambda *_, **__: {"validation_loss": next(losses)})
    run = start("train.max_iters=100", "eval.every=2", "eval.patience=2")
    outcome = finish(run)
    assert (outcome.stopped_by, outcome.step) == ("patience", 10)
    assert load_checkpoint(run.folder.path).step == 10


def test_best_is_kept_and_exported(start: Start, finish: Finish, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([3.0, 2.5, 2.0, 2.2, math.nan, 2.1, 2.3, 2.4, 2.0, 2.9])
    monkeypatch.setattr(loop_module, "evaluate", lambda *_, **__: {"validation_loss": next(losses)})
    run = start(
        "train.max_iters=20", "eval.every=2", "checkpoint.keep=1",
        "checkpoint.export=best_model_params.pt",
    )  # fmt: skip
    outcome = finish(run)
    best = load_checkpoint(run.folder.path, "best")
    assert run.progress.best_step == best.step == 6
    assert outcome.step == load_checkpoint(run.folder.path).step == 20
    assert outcome.best_loss == 2.0
    exported = torch.load(run.folder.path / "best_model_params.pt", weights_only=True)
    assert exported.keys() == best.model.keys()
    assert all(torch.equal(tensor, best.model[name]) for name, tensor in exported.items())
    assert len(list((run.folder.path / "checkpoints").glob("step-*"))) == 2


def test_evaluation_is_the_mean_over_fixed_rows(start: Start, finish: Finish, records: Records) -> None:
    run = start("train.max_iters=5")
    finish(run)
    found = next(record for record in records(run.folder.path) if "validation_loss" in record)
    sampler = run.validation
    assert sampler is not None
    batch = Batch.empty(8, sampler.seq_len, sampler.dtype)
    sampler.fill(np.arange(8), batch)
    window = torch.from_numpy(batch.tokens.astype(np.int64))
    with torch.no_grad():
        logits = run.model(window[:, :-1])[..., :257]
    loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten()).item()
    assert found["validation_loss"] == pytest.approx(loss, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    split = run.corpus.first.manifest.splits["validation"]
    assert found["bits_per_byte"] == pytest.approx(loss / math.log(2) * split.tokens / split.text_bytes)


class Bigrams(nn.Module):
    """Somebody's own model: a table, and no more than the documented call."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.table(input_ids)


def bigrams(config: Any) -> nn.Module:
    return Bigrams(config.vocab_size)


def test_any_module_can_be_trained(start: Start, finish: Finish, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import ModuleType

    module = ModuleType("somebodys_model")
    module.bigrams = bigrams  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebodys_model", module)
    run = start("model.factory=somebodys_model:bigrams", "optim.lr=0.1", "train.max_iters=30")
    assert run.facts["parameters"] == 257 * 257
    first = run.model.state_dict()["table.weight"].clone()
    outcome = finish(run)
    assert outcome.best_loss is not None
    assert outcome.best_loss < 4.5
    assert not torch.equal(first, run.model.state_dict()["table.weight"])


@pytest.mark.parametrize(
    "settings",
    [
        ("optim.name=muon",),
        ("schedule.name=wsd", "model.dropout=0.1"),
        ("train.dtype=bfloat16", "train.activation_checkpointing=true"),
        ("train.loss_chunk_tokens=16", "train.control_gc=false"),
        ("data.sampler=packed", "data.isolate_documents=false"),
        ("preset=llama-tiny", "model.sliding_window=4", "model.global_every=2", "model.num_kv_heads=1"),
    ],
)
def test_options_train(start: Start, finish: Finish, records: Records, settings: tuple[str, ...]) -> None:
    run = start(*settings, "train.max_iters=30", "optim.lr=1e-2")
    finish(run)
    found = losses(records(run.folder.path))
    assert found[-1] < found[0] - 1.0
