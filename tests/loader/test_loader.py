"""The loader: the same global batches for any shape of the machine, and exactly on from where it stood."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import logging
import threading
from typing import Any, ClassVar

import numpy as np
import pytest

from tokpack.batches import Batch
from tokpack.dataset.store import ArrayStore
from tokpack.errors import DamagedError, MismatchError, StorageError, UsageError
from tokpack.loader import HostSlot, Loader, Share, open_loader, populate, populate_in_background
from tokpack.loader.populate import fits_in_memory
from tokpack.samplers.mixture import Mixture
from tokpack.samplers.random_block import RandomBlock
from tokpack.samplers.sliding_window import SlidingWindow

GLOBAL = 48
WORLDS = (1, 2, 3, 4, 6, 8, 16)
SEQ_LEN = 8


def store_of(length: int = 3000, seed: int = 0) -> ArrayStore:
    tokens = np.random.default_rng(seed).integers(0, 50_257, length).astype(np.uint16)
    return ArrayStore(tokens, vocab_size=50_257, tokenizer_fingerprint="t" * 64)


def sampler_of(**changes: int) -> RandomBlock:
    return RandomBlock(store_of(), **{"seq_len": SEQ_LEN, "seed": 0} | changes)


def digests_of(loaders: list[Loader[Batch]], steps: int) -> list[str]:
    """Return a hash of each global batch, its rows put in order by their numbers."""
    digests = []
    for _ in range(steps):
        rows: dict[int, bytes] = {}
        for loader in loaders:
            for _ in range(loader.share.micro_batches):
                batch = next(loader)
                rows |= {number: row.tobytes() for number, row in zip(loader.rows, batch.tokens, strict=True)}
        digests.append(hashlib.sha256(b"".join(rows[number] for number in sorted(rows))).hexdigest())
    return digests


def world_of(
    world_size: int,
    batch_size: int,
    prefetch: int,
    *,
    global_batch_size: int = GLOBAL,
    state: dict[str, str | int] | None = None,
) -> list[Loader[Batch]]:
    loaders = [
        open_loader(
            sampler_of(),
            batch_size=batch_size,
            global_batch_size=global_batch_size,
            rank=rank,
            world_size=world_size,
            prefetch=prefetch,
        )
        for rank in range(world_size)
    ]
    for loader in loaders:
        if state is not None:
            loader.load_state_dict(state)
    return loaders


def close(loaders: list[Loader[Batch]]) -> None:
    for loader in loaders:
        loader.close()


@functools.cache
def expected(global_batch_size: int, steps: int) -> list[str]:
    """The global batches of the first steps, straight from the sampler."""
    sampler, digests = sampler_of(), []
    for step in range(steps):
        batch = Batch.empty(global_batch_size, SEQ_LEN, sampler.dtype)
        sampler.fill(np.arange(step * global_batch_size, (step + 1) * global_batch_size), batch)
        digests.append(hashlib.sha256(batch.tokens.tobytes()).hexdigest())
    return digests


@pytest.mark.parametrize("world_size", WORLDS)
@pytest.mark.parametrize("batch_size", range(1, 17))
def test_global_batches_do_not_depend_on_the_machine(world_size: int, batch_size: int) -> None:
    size = GLOBAL * batch_size
    for prefetch in range(5):
        loaders = world_of(world_size, batch_size, prefetch, global_batch_size=size)
        assert digests_of(loaders, 2) == expected(size, 2)
        close(loaders)


def test_the_machine_may_change_in_mid_epoch() -> None:
    rng = np.random.default_rng(0)
    possible = [(w, b) for w in WORLDS for b in range(1, 17) if GLOBAL // w % b == 0]
    steps = 24
    assert steps * GLOBAL > 3 * sampler_of().rows_before(1)
    state: dict[str, str | int] | None = None
    seen: list[str] = []
    while len(seen) < steps:
        world_size, batch_size = possible[rng.integers(len(possible))]
        loaders = world_of(world_size, batch_size, int(rng.integers(5)), state=state)
        seen += digests_of(loaders, min(int(rng.integers(1, 4)), steps - len(seen)))
        states = [loader.state_dict() for loader in loaders]
        assert states == states[:1] * world_size
        state = json.loads(json.dumps(states[0]))
        close(loaders)
    assert seen == expected(GLOBAL, steps)


def test_resume_at_a_hundred_random_positions() -> None:
    sampler = sampler_of()
    for step in np.random.default_rng(1).integers(0, 10**9, 100).tolist():
        first = open_loader(sampler, batch_size=4, prefetch=0)
        first.seek(step)
        next(first)
        second = open_loader(sampler_of(), batch_size=4, prefetch=step % 3)
        second.load_state_dict(first.state_dict())
        for _ in range(5):
            assert np.array_equal(next(first).tokens, next(second).tokens)
            assert first.rows == second.rows
        second.close()


def test_state_counts_what_was_handed_out_and_not_what_was_prefetched() -> None:
    loader = open_loader(sampler_of(), batch_size=2, global_batch_size=6, prefetch=4)
    assert [loader.state_dict()["step"]] == [0]
    steps = []
    for _ in range(7):
        next(loader)
        steps.append(loader.state_dict()["step"])
    assert steps == [0, 0, 1, 1, 1, 2, 2]
    assert loader.rows == range(12, 14)
    assert len(json.dumps(loader.state_dict())) <= 512
    loader.close()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda: open_loader(sampler_of(seed=1), batch_size=4), "seed was 0 and is 1"),
        (lambda: open_loader(sampler_of(seq_len=9), batch_size=4), "seq_len was 8 and is 9"),
        (lambda: open_loader(sampler_of(), batch_size=5), "global_batch_size was 4 and is 5"),
        (
            lambda: open_loader(RandomBlock(store_of(seed=1), seq_len=SEQ_LEN), batch_size=4),
            "dataset was .* and is ",
        ),
        (
            lambda: open_loader(SlidingWindow(store_of(), seq_len=SEQ_LEN), batch_size=4),
            "sampler was 'random-block/1' and is 'sliding-window/1'; .*epoch was 'exact' and is None",
        ),
        (
            lambda: open_loader(
                RandomBlock(
                    ArrayStore(store_of().read(0, 3000), vocab_size=50_257, tokenizer_fingerprint="u"),
                    seq_len=SEQ_LEN,
                ),
                batch_size=4,
            ),
            "tokenizer was .* and is 'u'",
        ),
        (
            lambda: open_loader(RandomBlock(store_of(), seq_len=SEQ_LEN, epoch="replacement"), batch_size=4),
            "epoch was 'exact' and is 'replacement'",
        ),
    ],
)
def test_a_state_of_something_else_is_refused_by_name(change, named: str) -> None:
    state = open_loader(sampler_of(), batch_size=4).state_dict()
    with pytest.raises(MismatchError, match=named):
        change().load_state_dict(state)


@pytest.mark.parametrize("step", [None, "3", -1, True, 1.5])
def test_a_damaged_state_is_refused(step: object) -> None:
    loader = open_loader(sampler_of(), batch_size=4)
    with pytest.raises(DamagedError, match="needs a step"):
        loader.load_state_dict(loader.state_dict() | {"step": step})


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (lambda: Share(10, 1, 0, 3), "10 rows does not split over 3 ranks; use a multiple of 3"),
        (lambda: Share(12, 5, 0, 2), "6 rows per rank .* micro-batches of 5"),
        (lambda: Share(12, 1, 2, 2), "ranks count from 0 to 1"),
        (lambda: Share(0, 1), "global_batch_size is 0"),
        (lambda: Share(4, 0), "batch_size is 0"),
        (lambda: open_loader(sampler_of(), batch_size=1, prefetch=-1), "prefetch is -1"),
        (
            lambda: open_loader(sampler_of(), batch_size=1, model_vocab_size=50_256),
            "vocabulary has 50,257 ids, but the model only 50,256",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_batch(share, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        share()


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_id_beyond_the_vocabulary_has_a_row(prefetch: int) -> None:
    tokens = np.arange(100, dtype=np.uint16)
    sampler = SlidingWindow(ArrayStore(tokens, vocab_size=50), seq_len=10, shuffle=False)
    loader = open_loader(sampler, batch_size=2, prefetch=prefetch)
    next(loader)
    next(loader)
    with pytest.raises(DamagedError, match=r"row 4 holds id 50 at position 10, but .* 50 ids; run `tokpack"):
        list(loader)


class Failing(RandomBlock):
    """Fails at one row, as a disk might."""

    def fill(self, rows: np.ndarray, out: Batch) -> None:
        if 20 in rows:
            raise OSError("the disk is gone")
        super().fill(rows, out)


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_an_error_in_the_thread_is_raised_in_the_loop(prefetch: int) -> None:
    loader = open_loader(Failing(store_of(), seq_len=SEQ_LEN), batch_size=4, prefetch=prefetch)
    assert len(list(itertools.islice(loader, 5))) == 5
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone"):
            next(loader)
    assert loader.step == 5
    loader.seek(6)
    next(loader)
    loader.close()


def test_a_batch_is_not_touched_before_the_next_is_asked_for() -> None:
    loader = open_loader(sampler_of(), batch_size=4, prefetch=3)
    for _ in range(50):
        tokens = next(loader).tokens
        before = tokens.copy()
        threading.Event().wait(0.001)
        assert np.array_equal(tokens, before)
    loader.close()


class SlotInFlight(HostSlot):
    """A slot whose memory a device still reads after it was handed out, until told that it has done."""

    made: ClassVar[list[SlotInFlight]] = []

    def __init__(self, rows: int, sampler: RandomBlock) -> None:
        super().__init__(rows, sampler)
        self.read = threading.Event()
        self.read.set()
        self.made.append(self)

    def wait(self) -> None:
        assert self.read.wait(30)

    def hand_out(self) -> Batch:
        self.read.clear()
        return super().hand_out()


@pytest.mark.parametrize("prefetch", [1, 2, 3])
def test_a_slot_is_not_refilled_while_the_device_reads_it(prefetch: int) -> None:
    SlotInFlight.made.clear()
    loader = Loader(sampler_of(), Share(4, 4), new_slot=SlotInFlight, prefetch=prefetch)
    in_flight = []
    for _ in range(prefetch + 1):  # as many as there are slots: the host is far ahead of the device
        tokens = next(loader).tokens
        in_flight.append((tokens, tokens.copy()))
    threading.Event().wait(0.05)
    for tokens, before in in_flight:
        assert np.array_equal(tokens, before)
    for slot in SlotInFlight.made:
        slot.read.set()
    assert len({id(next(loader).tokens), *(id(tokens) for tokens, _ in in_flight)}) == prefetch + 1
    for slot in SlotInFlight.made:
        slot.read.set()
    loader.close()


def test_a_mixture_resumes_and_refuses_other_weights() -> None:
    def opened(weights: dict[str, float], prefetch: int = 2) -> Loader[Batch]:
        samplers = {"a": sampler_of(), "b": RandomBlock(store_of(400, seed=3), seq_len=SEQ_LEN)}
        return open_loader(Mixture(samplers, weights), batch_size=6, prefetch=prefetch)

    first = opened({"a": 0.7, "b": 0.3})
    list(itertools.islice(first, 9))
    state = json.loads(json.dumps(first.state_dict()))
    assert len(json.dumps(state)) <= 512
    second = opened({"a": 7, "b": 3}, prefetch=0)
    second.load_state_dict(state)
    for _ in range(20):
        assert np.array_equal(next(first).tokens, next(second).tokens)
    first.close()
    with pytest.raises(MismatchError, match="weights was '7:3' and is '1:1'"):
        opened({"a": 1, "b": 1}).load_state_dict(state)


def test_populate_touches_mapped_stores_only() -> None:
    store = store_of()
    assert populate(store) == 6000
    thread = populate_in_background(store)
    assert thread is not None
    thread.join(30)
    assert fits_in_memory(store)
    assert not fits_in_memory(store, share=1e-9)
    store.memory_mapped = False
    assert populate(store) == 0
    assert populate_in_background(store) is None


def test_populate_takes_several_stores_and_leaves_errors_to_who_reads_the_rows() -> None:
    good, bad, seen = store_of(), store_of(), []

    def broken(start: int, stop: int) -> Any:
        raise StorageError("gone")

    bad.read = broken  # type: ignore[method-assign]
    read = good.read
    good.read = lambda start, stop: (seen.append(stop), read(start, stop))[1]  # type: ignore[func-returns-value,method-assign]
    for stores in ((good,), (bad, good), (good, bad)):
        thread = populate_in_background(*stores)
        assert thread is not None
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert len(seen) == 2  # what comes after the store that failed is not touched either


def prefetch_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "tokpack-prefetch"}


def test_an_abandoned_loader_ends_its_thread() -> None:
    before = prefetch_threads()
    loader = open_loader(sampler_of(), batch_size=4)
    next(loader)
    (thread,) = prefetch_threads() - before  # another test may have left one that hangs on purpose
    del loader
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_a_format_for_exchange_is_named_with_the_remedy(caplog: pytest.LogCaptureFixture) -> None:
    store = store_of()
    store.memory_mapped = False
    with caplog.at_level(logging.WARNING, "tokpack.loader"):
        loader = open_loader(RandomBlock(store, seq_len=SEQ_LEN), batch_size=4)
        next(loader)
        next(loader)
        loader.close()
    assert [record.getMessage() for record in caplog.records] == [caplog.records[0].getMessage()]
    assert "first 4 rows took" in caplog.text
    assert "tokpack convert DIR --format bin" in caplog.text
