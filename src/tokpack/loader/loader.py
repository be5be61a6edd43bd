"""The loader: global batches by step number, a rank's share of them, and a state of a few hundred bytes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from tokpack.batches import Batch
from tokpack.errors import DamagedError, MismatchError, UsageError
from tokpack.loader.prefetch import Prefetcher
from tokpack.loader.share import Share
from tokpack.protocols import Sampler
from tokpack.samplers import empty_batch

__all__ = ["HostSlot", "Loader", "Slot", "open_loader"]

_log = logging.getLogger("tokpack.loader")

#: Version of what `Loader.state_dict` returns.
STATE_VERSION = 1

Item = TypeVar("Item", covariant=True)


class Slot(Protocol[Item]):
    """One place of the ring: memory for a batch, and the way from there to the consumer."""

    @property
    def batch(self) -> Batch:
        """The memory that the sampler fills."""
        ...

    def wait(self) -> None:
        """Return once nobody reads the memory any more."""
        ...

    def prepare(self) -> None:
        """Derive what can be derived in the prefetch thread, after the sampler has filled the memory."""
        ...

    def hand_out(self) -> Item:
        """Return the batch in the consumer's form; called in the consumer's thread."""
        ...


class HostSlot:
    """A slot in ordinary memory, handed out as it is: the batch holds until the next one is asked for."""

    def __init__(self, rows: int, sampler: Sampler) -> None:
        self.batch = empty_batch(sampler, rows)

    def wait(self) -> None:
        """Nothing reads the memory once the consumer has asked for the next batch."""

    def prepare(self) -> None:
        """Nothing to derive."""

    def hand_out(self) -> Batch:
        """Return the batch."""
        return self.batch


class Loader(Generic[Item]):
    """An endless iterator over this rank's micro-batches.

    Global batch ``step`` is made of rows [step * global_batch_size, …), whatever the number of ranks, the
    micro-batch and the prefetch depth; all three may change between a state and its resumption.

    ``share`` says which rows are this rank's, ``new_slot(rows, sampler)`` makes the memory they go to,
    ``prefetch`` is how many batches a thread fills ahead (0: none, no thread).

    Raises:
        UsageError: the dataset's vocabulary is larger than ``model_vocab_size``.
    """

    def __init__(
        self,
        sampler: Sampler,
        share: Share,
        *,
        new_slot: Callable[[int, Sampler], Slot[Item]],
        prefetch: int = 2,
        model_vocab_size: int | None = None,
    ) -> None:
        if prefetch < 0:
            raise UsageError(f"prefetch is {prefetch}; it must be 0 or more batches")
        if model_vocab_size is not None and sampler.vocab_size > model_vocab_size:
            raise UsageError(
                f"the dataset's vocabulary has {sampler.vocab_size:,} ids, but the model only "
                f"{model_vocab_size:,}; give the model at least {sampler.vocab_size:,}"
            )
        self.sampler = sampler
        self.share = share
        self._new_slot = new_slot
        self._prefetch = prefetch
        self._handed_out = 0  # micro-batches of this rank, from step 0 on
        self._slots: list[Slot[Item]] = []
        self._prefetcher: Prefetcher[Slot[Item]] | None = None

    @property
    def step(self) -> int:
        """Global batches handed out to the end: the step that comes next, or is in progress."""
        return self._handed_out // self.share.micro_batches

    @property
    def rows(self) -> range:
        """Numbers of the rows handed out last; none before the first batch."""
        return self.share.rows(self._handed_out - 1) if self._handed_out else range(0)

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if not self._slots:
            return self._first()
        if self._prefetcher is not None:
            slot = self._prefetcher.next()
        elif self._prefetch == 0:
            slot = self._slots[0]
            _fill(slot, self._handed_out, self.sampler, self.share)
        else:
            self._prefetcher = Prefetcher(self._slots, self._filler(), self._handed_out)
            slot = self._prefetcher.next()
        item = slot.hand_out()
        self._handed_out += 1
        return item

    def _first(self) -> Item:
        rows = self.share.batch_size
        self._slots = [self._new_slot(rows, self.sampler) for _ in range(self._prefetch + 1)]
        begin = time.monotonic()
        item = next(self)
        if not self.sampler.memory_mapped:
            _log.warning(
                "reading the first %d rows took %.1f s: this dataset's format is made for exchange and "
                "decodes whole blocks to reach single rows. Convert it once with "
                "`tokpack convert DIR --format bin --output NEW_DIR` and train from that",
                rows,
                time.monotonic() - begin,
            )
        return item

    def state_dict(self) -> dict[str, str | int]:
        """Return where to go on, ready for JSON and the same on every rank.

        It counts whole steps of batches handed out, never prefetched ones. A step of which some
        micro-batches are still to come is not counted: its gradients are lost with the process.
        """
        return {
            "version": STATE_VERSION,
            "step": self.step,
            "global_batch_size": self.share.global_batch_size,
            **self.sampler.identity,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the last batch that ``state`` describes.

        Raises:
            MismatchError: the state is of other data, another tokenizer, sampler, seed, row length or batch
                size; every difference is named.
            DamagedError: it is no state of a loader.
        """
        step = state.get("step")
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise DamagedError(f"a loader's state needs a step, but has {step!r}; restore the checkpoint")
        expected = self.state_dict()
        differences = [
            f"{name} was {_short(state.get(name))} and is {_short(expected.get(name))}"
            for name in {**state, **expected}
            if name != "step" and state.get(name) != expected.get(name)
        ]
        if differences:
            raise MismatchError(
                f"cannot resume at step {step:,}: {'; '.join(differences)}. "
                "Resume with what the run began with, or begin a new run"
            )
        self.seek(step)

    def seek(self, step: int) -> None:
        """Make ``step`` the next one."""
        self.close()
        self._handed_out = step * self.share.micro_batches

    def close(self) -> None:
        """End the prefetch thread; the loader may be used again."""
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None

    def _filler(self) -> Callable[[Slot[Item], int], None]:
        sampler, share = self.sampler, self.share  # not self: the thread must not keep the loader alive
        return lambda slot, number: _fill(slot, number, sampler, share)


def _fill(slot: Slot[Any], number: int, sampler: Sampler, share: Share) -> None:
    rows = share.rows(number)
    slot.wait()
    sampler.fill(np.arange(rows.start, rows.stop, dtype=np.int64), slot.batch)
    _check_ids(slot.batch, rows, sampler.vocab_size)
    slot.prepare()


def _check_ids(batch: Batch, rows: range, vocab_size: int) -> None:
    """Refuse an id beyond the vocabulary here, where it has a row: a GPU would only abort."""
    if vocab_size > np.iinfo(batch.tokens.dtype).max or int(batch.tokens.max()) < vocab_size:
        return
    row, column = np.argwhere(batch.tokens >= vocab_size)[0].tolist()
    raise DamagedError(
        f"row {rows[row]:,} holds id {int(batch.tokens[row, column]):,} at position {column:,}, but the "
        f"vocabulary has {vocab_size:,} ids; run `tokpack verify` on the dataset"
    )


def _short(value: object) -> str:
    """Show a fingerprint by its beginning."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:20]}…{text[-1]}"


def open_loader(
    sampler: Sampler,
    *,
    batch_size: int,
    global_batch_size: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    prefetch: int = 2,
    model_vocab_size: int | None = None,
) -> Loader[Batch]:
    """Open a loader of NumPy batches; `tokpack.loader.device.open_device_loader` gives tensors.

    ``batch_size`` is rows per micro-batch of a rank; ``global_batch_size`` rows per step over all ranks, one
    micro-batch of each rank by default. A batch's memory is used again once the next one is asked for.

    Raises:
        UsageError: sizes that do not fit each other, or a vocabulary beyond the model's.
    """
    share = Share(global_batch_size or batch_size * world_size, batch_size, rank, world_size)
    return Loader(sampler, share, new_slot=HostSlot, prefetch=prefetch, model_vocab_size=model_vocab_size)
