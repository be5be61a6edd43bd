"""Hugging Face's Trainer fed by tokpack, with a tiny GPT-2 made from nothing. Runs on a CPU in seconds.

pip install tokpack 'transformers[torch]'
python examples/feed_huggingface_trainer.py [FILE.txt]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from tokpack.dataset.store import ArrayStore
from tokpack.loader.datasets import RowDataset, collate_rows
from tokpack.protocols import SamplerOptions
from tokpack.samplers import open_sampler

POSITIONS = 64


def main() -> None:
    text = Path(sys.argv[1] if len(sys.argv) > 1 else __file__).read_text()
    tokens = np.frombuffer(text.encode() * 8, np.uint8).astype(np.uint16)
    store = ArrayStore(tokens, vocab_size=256)
    # Hugging Face's models shift the labels themselves. So they get the whole window, `shift=False`, and the
    # sampler's seq_len is one below the model's positions: no position goes without a loss.
    sampler = open_sampler("random-block", store, SamplerOptions(POSITIONS - 1, seed=0))
    dataset = RowDataset(sampler, shift=False)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=256,
            n_positions=POSITIONS,
            n_embd=64,
            n_layer=2,
            n_head=2,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=20,
            per_device_train_batch_size=8,
            learning_rate=3e-3,
            logging_steps=10,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            train_sampling_strategy="sequential",  # rows are shuffled already, anew in every epoch
        )
        trainer = Trainer(model, arguments, data_collator=collate_rows, train_dataset=dataset)
        result = trainer.train()
    print(f"{result.global_step} steps, mean loss {result.training_loss:.3f}")


if __name__ == "__main__":
    main()
