"""A plain PyTorch loop fed by tokpack: raw text in, exact resumption out. Runs on a CPU in seconds.

python examples/feed_pytorch_loop.py [FILE.txt]
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

import tokpack
from tokpack.dataset.store import ArrayStore
from tokpack.loader.device import open_device_loader
from tokpack.protocols import SamplerOptions
from tokpack.samplers import epochs_at, open_sampler

STEPS, BATCH, SEQ_LEN = 60, 16, 64


def main() -> None:
    text = Path(sys.argv[1] if len(sys.argv) > 1 else __file__).read_text()
    tokens = np.frombuffer(text.encode(), np.uint8).astype(np.uint16)  # the byte tokenizer, in one line
    # A dataset on disk is a store as well: tokpack.open_dataset("tokenized")["train"].
    store = ArrayStore(tokens, vocab_size=256)
    sampler = open_sampler("random-block", store, SamplerOptions(SEQ_LEN, seed=0))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loader = open_device_loader(sampler, device=device, batch_size=BATCH, model_vocab_size=256)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(256, 64), nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 256)).to(
        device
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for batch in islice(loader, STEPS):
        logits = model(batch.input_ids)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loader.step % 20 == 0:
            epochs = epochs_at(sampler, loader.rows.stop)
            print(f"step {loader.step:>3}  epoch {epochs:5.2f}  loss {loss.item():.3f}")

    # A few hundred bytes say where to go on, on any number of ranks.
    state = json.dumps(loader.state_dict())
    resumed = open_device_loader(sampler, device=device, batch_size=BATCH, prefetch=0)
    resumed.load_state_dict(json.loads(state))
    assert torch.equal(next(resumed).input_ids, next(loader).input_ids)
    print(f"resumed at step {resumed.step - 1} from {len(state)} bytes of state")
    loader.close()

    # And as the books have it: one call from text to a torch DataLoader.
    inputs, targets = next(iter(tokpack.create_dataloader(text, max_length=8, stride=8, tokenizer="byte:")))
    assert torch.equal(inputs[:, 1:], targets[:, :-1])


if __name__ == "__main__":
    main()
