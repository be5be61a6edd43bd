"""What a token store is: one split of a dataset as one axis of tokens."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tokpack.dtypes import TokenArray


class TokenColumn(Protocol):
    """One value per token of a split, on the axis of its tokens. Safe from several threads."""

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the values of tokens [start, stop)."""
        ...

    def gather(self, starts: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Fill ``out`` (rows, length), of the column's dtype, with values [starts[i], starts[i] + length)."""
        ...


class TokenStore(Protocol):
    """One split of a dataset as one axis of tokens, whatever its shards. Safe from several threads.

    `tokpack.open_dataset(DIR)["train"]` is one; tests and raw arrays use `tokpack.dataset.store.ArrayStore`.
    """

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage dtype, uint16 or uint32."""
        ...

    @property
    def vocab_size(self) -> int:
        """Largest id + 1 of the tokenizer that wrote the tokens."""
        ...

    @property
    def num_documents(self) -> int:
        """Documents in the split; known without reading ``offsets``."""
        ...

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Document boundaries, int64 of shape (documents + 1,); loaded on first use."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identity of documents and tokens (the logical digest), independent of format and sharding."""
        ...

    @property
    def tokenizer_fingerprint(self) -> str:
        """Identity of the tokenizer that wrote the tokens; stores are mixed only where it is equal."""
        ...

    @property
    def memory_mapped(self) -> bool:
        """Whether `read` and `gather` reach any position at the cost of its own pages."""
        ...

    @property
    def loss_mask(self) -> TokenColumn | None:
        """1 where the loss counts a token as a label, 0 where it is only read (uint8); None: all count."""
        ...

    def __len__(self) -> int:
        """Tokens in the split."""
        ...

    def read(self, start: int, stop: int) -> TokenArray:
        """Return tokens [start, stop): a view inside a memory-mapped shard, a copy across shards."""
        ...

    def gather(self, starts: NDArray[np.int64], out: TokenArray) -> None:
        """Fill ``out`` (rows, length), of the store's dtype, with tokens [starts[i], starts[i] + length)."""
        ...
