"""Who takes which rows: a global batch follows from the step alone, a rank's share from its number."""

from __future__ import annotations

from dataclasses import dataclass

from tokpack.errors import UsageError

__all__ = ["Share"]


@dataclass(frozen=True, slots=True)
class Share:
    """One rank's part of every global batch.

    Step ``s`` trains on rows [s * G, (s + 1) * G), G being ``global_batch_size``, whatever the number of
    ranks. A rank takes a run of G / world_size of them, in micro-batches of ``batch_size`` rows.

    Raises:
        UsageError: the global batch does not split over the ranks and their micro-batches.
    """

    global_batch_size: int
    batch_size: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        for name in ("global_batch_size", "batch_size", "world_size"):
            if (value := getattr(self, name)) < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1")
        if not 0 <= self.rank < self.world_size:
            raise UsageError(
                f"rank {self.rank} of a world of {self.world_size}: "
                f"ranks count from 0 to {self.world_size - 1}"
            )
        if self.global_batch_size % self.world_size:
            raise UsageError(
                f"a global batch of {self.global_batch_size:,} rows does not split over {self.world_size} "
                f"ranks; use a multiple of {self.world_size}"
            )
        if self.rows_per_step % self.batch_size:
            raise UsageError(
                f"{self.rows_per_step:,} rows per rank and step do not split into micro-batches of "
                f"{self.batch_size}; choose a batch_size that divides {self.rows_per_step:,}"
            )

    @property
    def rows_per_step(self) -> int:
        """Rows of this rank in one step."""
        return self.global_batch_size // self.world_size

    @property
    def micro_batches(self) -> int:
        """Micro-batches of this rank in one step."""
        return self.rows_per_step // self.batch_size

    def rows(self, number: int) -> range:
        """Return the rows of this rank's micro-batch ``number``, counted from the first step on."""
        step, micro = divmod(number, self.micro_batches)
        first = step * self.global_batch_size + self.rank * self.rows_per_step + micro * self.batch_size
        return range(first, first + self.batch_size)
