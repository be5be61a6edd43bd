"""Bridges to torch: the same rows through torch's own loaders, and the book's loader to the letter."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the bridges to torch need torch")
from torch.utils.data import DataLoader, Dataset  # noqa: E402

import tokpack  # noqa: E402
from tokpack.batches import Batch  # noqa: E402
from tokpack.dataset.store import ArrayStore  # noqa: E402
from tokpack.errors import MismatchError, UsageError  # noqa: E402
from tokpack.loader.datasets import RowDataset, StepDataset, as_tensors, collate_rows  # noqa: E402
from tokpack.samplers.random_block import RandomBlock  # noqa: E402
from tokpack.samplers.sliding_window import SlidingWindow  # noqa: E402

TEXT = "The quick brown fox jumps over the lazy dog. Ünïcödé – 漢字. " * 40


def sampler_of(seed: int = 0) -> RandomBlock:
    tokens = np.random.default_rng(0).integers(0, 50_257, 2000).astype(np.uint16)
    return RandomBlock(ArrayStore(tokens, vocab_size=50_257), seq_len=8, seed=seed)


def rows_of(sampler: RandomBlock, rows: np.ndarray) -> np.ndarray:
    batch = Batch.empty(len(rows), sampler.seq_len, sampler.dtype)
    sampler.fill(rows, batch)
    return batch.tokens.astype(np.int64)


class BookDataset(Dataset):
    """The dataset of "Build a Large Language Model (From Scratch)", from its description."""

    def __init__(self, ids: list[int], max_length: int, stride: int) -> None:
        starts = range(0, len(ids) - max_length, stride)
        self.inputs = [torch.tensor(ids[i : i + max_length]) for i in starts]
        self.targets = [torch.tensor(ids[i + 1 : i + max_length + 1]) for i in starts]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inputs[index], self.targets[index]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize(("max_length", "stride"), [(16, 16), (16, 5), (7, 20)])
def test_create_dataloader_gives_the_batches_of_the_book(
    max_length: int, stride: int, drop_last: bool, num_workers: int
) -> None:
    book = BookDataset(list(TEXT.encode()), max_length, stride)
    for shuffle in (False, True):
        torch.manual_seed(123)
        theirs = list(DataLoader(book, batch_size=6, shuffle=shuffle, drop_last=drop_last))
        torch.manual_seed(123)
        ours = list(
            tokpack.create_dataloader(
                TEXT, 6, max_length, stride, shuffle, drop_last, num_workers, tokenizer="byte:"
            )
        )
        assert len(ours) == len(theirs)
        for (x, y), (book_x, book_y) in zip(ours, theirs, strict=True):
            assert x.dtype == y.dtype == torch.int64
            assert torch.equal(x, book_x)
            assert torch.equal(y, book_y)


def test_create_dataloader_takes_stores_and_splits() -> None:
    store = ArrayStore(np.frombuffer(TEXT.encode(), np.uint8).astype(np.uint16), vocab_size=256)
    from_text = tokpack.create_dataloader(TEXT, shuffle=False, tokenizer="byte:")
    for given in (store, {"train": store}):
        for (x, _), (same, _) in zip(from_text, tokpack.create_dataloader(given, shuffle=False), strict=True):
            assert torch.equal(x, same)


def test_create_dataloader_says_why_nothing_comes() -> None:
    with pytest.raises(UsageError, match=r"11 tokens, but .* seq_len 256 needs 257"):
        tokpack.create_dataloader("a few words", tokenizer="byte:")
    with pytest.raises(tokpack.TokpackError, match="nowhere"):
        tokpack.create_dataloader(Path("/nowhere"))


@pytest.mark.parametrize("collate", [collate_rows, None])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_rows_come_alike_through_any_collate(collate, num_workers: int) -> None:
    sampler = sampler_of()
    dataset = RowDataset(sampler)
    assert len(dataset) == sampler.rows_before(1)
    for epoch in (0, 3):
        dataset.set_epoch(epoch)
        expected = rows_of(sampler, np.arange(epoch * len(dataset), (epoch + 1) * len(dataset)))
        batches = list(DataLoader(dataset, batch_size=10, collate_fn=collate, num_workers=num_workers))
        inputs = torch.cat([batch["input_ids"] for batch in batches])
        labels = torch.cat([batch["labels"] for batch in batches])
        assert np.array_equal(inputs.numpy(), expected[:, :-1])
        assert np.array_equal(labels.numpy(), expected[:, 1:])
        assert np.array_equal(dataset[5]["input_ids"].numpy(), expected[5, :-1])
    with pytest.raises(IndexError, match="of a dataset of"):
        dataset[len(dataset)]


def test_models_that_shift_by_themselves_get_the_whole_window() -> None:
    tokens = np.arange(1, 13, dtype=np.uint16).reshape(2, 6)
    segments = np.array([[1, 1, 1, 2, 2, 2], [1, 1, 2, 2, 0, 0]], np.uint16)
    tensors = as_tensors(Batch(tokens, segments), shift=False)
    assert tensors["input_ids"].tolist() == tokens.tolist()
    assert tensors["labels"].tolist() == [[-100, 2, 3, -100, 5, 6], [-100, 8, -100, 10, -100, -100]]
    assert tensors["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2], [0, 1, 0, 1, 0, 1]]
    # A model's own shift, labels[:, 1:], must meet the labels that we would shift to.
    shifted = as_tensors(Batch(tokens, segments))
    assert torch.equal(tensors["labels"][:, 1:], shifted["labels"])
    assert set(shifted) == {"input_ids", "labels", "position_ids", "segment_ids"}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than this machine has cores
@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_steps_come_in_order_from_any_number_of_workers(num_workers: int) -> None:
    sampler = sampler_of()
    for rank, world_size in [(0, 1), (1, 3)]:
        dataset = StepDataset(sampler, global_batch_size=6, rank=rank, world_size=world_size)
        share = 6 // world_size
        batches = itertools.islice(DataLoader(dataset, batch_size=None, num_workers=num_workers), 20)
        for step, batch in enumerate(batches):
            expected = rows_of(sampler, np.arange(step * 6 + rank * share, step * 6 + (rank + 1) * share))
            assert np.array_equal(batch["input_ids"].numpy(), expected[:, :-1])


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata calls it
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_stateful_dataloader_goes_on_where_it_stood(num_workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="needs torchdata")

    def opened():
        dataset = StepDataset(sampler_of(), global_batch_size=4)
        return stateful.StatefulDataLoader(dataset, batch_size=None, num_workers=num_workers)

    for stop in (1, 2, 3, 7):
        first = opened()
        batches = iter(first)
        for _ in range(stop):
            next(batches)
        state = first.state_dict()
        second = opened()
        second.load_state_dict(state)
        for step, (mine, resumed) in enumerate(zip(batches, second, strict=False)):
            assert torch.equal(mine["input_ids"], resumed["input_ids"])
            expected = rows_of(sampler_of(), np.arange((stop + step) * 4, (stop + step + 1) * 4))
            assert np.array_equal(mine["input_ids"].numpy(), expected[:, :-1])
            if step == 10:
                break


def test_state_of_the_iterable_dataset_is_the_loaders() -> None:
    dataset = StepDataset(sampler_of(), global_batch_size=4)
    for _ in zip(range(5), dataset, strict=False):
        pass
    state = json.loads(json.dumps(dataset.state_dict()))
    resumed = StepDataset(sampler_of(), global_batch_size=4)
    resumed.load_state_dict(state)
    assert torch.equal(next(iter(resumed))["labels"], next(iter(dataset))["labels"])
    with pytest.raises(MismatchError, match="seed was 0 and is 1"):
        StepDataset(sampler_of(seed=1), global_batch_size=4).load_state_dict(state)
    resumed.load_state_dict(state | {"workers": 3})
    with pytest.raises(MismatchError, match="num_workers=3"):
        next(iter(resumed))


def test_padded_rows_reach_torch_with_their_segments() -> None:
    store = ArrayStore(np.arange(10, dtype=np.uint16), vocab_size=10)
    dataset = RowDataset(SlidingWindow(store, seq_len=6, drop_last=False, shuffle=False))
    (batch,) = DataLoader(dataset, batch_size=2, collate_fn=collate_rows)
    assert batch["labels"].tolist() == [[1, 2, 3, 4, 5, 6], [7, 8, 9, -100, -100, -100]]
    assert batch["segment_ids"].tolist() == [[1] * 6, [1] * 4 + [0] * 2]
