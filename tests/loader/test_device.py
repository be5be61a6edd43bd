"""The device half: what a model gets equals what the batch says, computed here or on the device."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the device half of the loader needs torch")

from tokpack.batches import Batch  # noqa: E402
from tokpack.dataset.store import ArrayStore  # noqa: E402
from tokpack.loader import open_loader  # noqa: E402
from tokpack.loader.device import (  # noqa: E402
    TensorBatch,
    _derived,
    _widened,
    open_device_loader,
    to_tensors,
)
from tokpack.samplers.random_block import RandomBlock  # noqa: E402
from tokpack.samplers.sliding_window import SlidingWindow  # noqa: E402

SEGMENTS = st.lists(st.lists(st.integers(0, 3), min_size=9, max_size=9).map(sorted), min_size=1, max_size=4)


def store_of(dtype: type, length: int = 4001, *, masked: bool = False) -> ArrayStore:
    top = int(np.iinfo(dtype).max) + 1
    tokens = np.random.default_rng(0).integers(0, top, length, dtype=np.uint64).astype(dtype)
    return ArrayStore(tokens, vocab_size=top, loss_mask=(tokens % 3 > 0).astype("u1") if masked else None)


def check(tensors: TensorBatch, batch: Batch) -> None:
    assert tensors.input_ids.dtype == tensors.labels.dtype == torch.int64
    assert np.array_equal(tensors.input_ids.cpu().numpy(), batch.input_ids)
    assert np.array_equal(tensors.labels.cpu().numpy(), batch.labels())
    if batch.segment_ids is None:
        assert tensors[2:] == (None,) * 4
        return
    assert np.array_equal(tensors.segment_ids.cpu().numpy(), batch.segment_ids[:, :-1])
    assert np.array_equal(tensors.position_ids.cpu().numpy(), batch.position_ids())
    bounds, padded = batch.cu_seqlens(), tensors.cu_seqlens.cpu().numpy()
    assert padded[: len(bounds)].tolist() == bounds.tolist()
    assert (padded[len(bounds) :] == bounds[-1]).all()
    assert len(padded).bit_count() == 1
    assert tensors.max_seqlen == np.diff(bounds).max()


@given(SEGMENTS, st.sampled_from([np.uint16, np.uint32]))
def test_host_and_device_derive_the_same(segments: list[list[int]], dtype: type) -> None:
    segment_ids = np.array(segments, np.uint16)
    tokens = store_of(dtype).read(0, segment_ids.size).reshape(segment_ids.shape)
    loss_mask = (tokens % 3 > 0).astype(np.uint8)
    batch = Batch(tokens, segment_ids, loss_mask)
    there = to_tensors(batch)
    check(there, batch)
    signed = torch.from_numpy(tokens.view(np.int16 if dtype is np.uint16 else np.int32).copy())
    here = _derived(
        _widened(signed),
        _widened(torch.from_numpy(segment_ids.view(np.int16))),
        torch.from_numpy(loss_mask),
        there.cu_seqlens,
        there.max_seqlen,
    )
    check(here, batch)


def pairs(device: str, dtype: type, prefetch: int):
    for sampler in (
        RandomBlock(store_of(dtype), seq_len=16),
        RandomBlock(store_of(dtype, masked=True), seq_len=16),
        SlidingWindow(store_of(dtype, masked=True), seq_len=16, drop_last=False),
    ):
        host = open_loader(sampler, batch_size=8, prefetch=0)
        tensors = open_device_loader(sampler, device=device, batch_size=8, prefetch=prefetch)
        yield host, tensors
        tensors.close()


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_tensors_on_the_cpu_are_the_host_batches(dtype: type, prefetch: int) -> None:
    for host, tensors in pairs("cpu", dtype, prefetch):
        kept = [(next(tensors), next(host)[:].tokens.copy(), tensors.rows) for _ in range(40)]
        for item, tokens, rows in kept:  # nothing handed out is written to later
            assert np.array_equal(item.input_ids.numpy(), tokens[:, :-1])
            assert len(rows) == 8
        check(next(tensors), next(host))
        assert tensors.state_dict() == host.state_dict()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_tensors_on_cuda_are_the_host_batches(dtype: type, prefetch: int) -> None:
    """With the device kept busy, so that the host runs ahead: a slot refilled too early would show."""
    busy = torch.randn(4096, 4096, device="cuda")
    for host, tensors in pairs("cuda", dtype, prefetch):
        kept = []
        for _ in range(40):
            for _ in range(4):
                busy = (busy @ busy).clamp_(-1, 1)
            batch = next(host)
            arrays = (batch.tokens, batch.segment_ids, batch.loss_mask)
            copy = Batch(*(None if array is None else array.copy() for array in arrays))
            kept.append((next(tensors), copy))
        for item, batch in kept:
            check(item, batch)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_handing_out_never_waits_for_the_device() -> None:
    sampler = SlidingWindow(store_of(np.uint16, masked=True), seq_len=16, drop_last=False)
    loader = open_device_loader(sampler, device="cuda", batch_size=8)
    next(loader)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            next(loader)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        loader.close()
