"""Chat data in, a trained model out: only what the assistant says carries loss."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from tokpack import encode
from tokpack.train.loop import Outcome
from tokpack.train.runs import Run

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
)
STEPS = 6


def conversations() -> list[list[tuple[str, str]]]:
    chance = np.random.default_rng(5)
    sizes = chance.integers(1, 30, (60, 4)).tolist()
    roles = ("system", "user", "assistant", "user", "assistant")
    return [
        [
            (role, "".join(chance.choice(list("abcdefgh "), size)))
            for role, size in zip(roles, row, strict=False)
        ]
        for row in sizes
    ]


def stream_by_hand(talks: list[list[tuple[str, str]]]) -> tuple[Tensor, Tensor]:
    """Return all bytes of all conversations, and which of them an assistant said."""
    ids: list[int] = []
    said: list[bool] = []
    for talk in talks:
        for role, text in talk:
            ids += f"<{role}>{text}".encode()
            said += [False] * len(f"<{role}>") + [role == "assistant"] * len(text)
    return torch.tensor(ids), torch.tensor(said)


def plain_losses(
    run: Run, ids: Tensor, said: Tensor, rows_of: Callable[[int], list[list[Any]]]
) -> list[float]:
    """A plain loop on a copy of the model: mean loss over bytes that an assistant said, AdamW, no more."""
    model, seen = copy.deepcopy(run.model), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0)
    for step in range(STEPS):
        losses = []
        for row in rows_of(step):
            for start, stop in row:  # each document on its own, or the whole window
                logits = model(ids[None, start : stop - 1])[0]
                labels = ids[start + 1 : stop].masked_fill(~said[start + 1 : stop], -1)
                losses.append(F.cross_entropy(logits, labels, ignore_index=-1, reduction="none")[labels >= 0])
        loss = torch.cat(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen.append(loss.item())
    return seen


@pytest.mark.parametrize(("sampler", "format_name"), [("random-block", "bin"), ("packed", "npy")])
def test_only_the_assistant_carries_loss(
    sampler: str,
    format_name: str,
    start: Callable[..., Run],
    finish: Callable[..., Outcome],
    records: Callable[[Path], list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    talks = conversations()
    (tmp_path / "talks.jsonl").write_text(
        "\n".join(
            json.dumps({"messages": [{"role": role, "content": text} for role, text in talk]})
            for talk in talks
        )
    )
    dataset = encode(
        tmp_path / "talks.jsonl",
        tmp_path / "chat",
        tokenizer="byte",
        format=format_name,
        messages_field="messages",
        chat_template=TEMPLATE,
    )
    ids, said = stream_by_hand(talks)
    assert dataset["train"].tokens().tolist() == ids.tolist()
    run = start(
        f"data.dataset='{dataset.path}'",
        f"data.sampler={sampler}",
        "data.seq_len=192",
        "data.batch_size=2",
        "data.global_batch_size=4",  # two micro-batches, with other numbers of labels in each
        f"train.max_iters={STEPS}",
        "eval.every=0",
        "optim.lr=1e-2",
        "optim.weight_decay=0",
        "schedule.name=constant",
        "schedule.warmup=0",
    )

    def rows_of(step: int) -> list[list[Any]]:
        return [[span[1:] for span in run.sampler.trace(row)] for row in range(4 * step, 4 * step + 4)]

    expected = plain_losses(run, ids, said, rows_of)
    batch = next(run.loader)
    run.loader.seek(0)
    kept = batch.labels[batch.labels >= 0]
    assert 0 < len(kept) < batch.labels.numel() / 2
    assert not set(bytes(kept.tolist())) & set(b"<>")  # roles are never labels
    finish(run)
    found = [record["loss"] for record in records(run.folder.path) if "loss" in record]
    np.testing.assert_allclose(found, expected, rtol=2e-5)
