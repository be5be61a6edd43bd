"""What a storage format is: a writer, an index writer and a reader of one shard."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import TokenBatch
from tokpack.dtypes import TokenArray


class FormatWriter(Protocol):
    """Writes one shard into an open file. Names, checksums, renames and the manifest are the caller's."""

    def write(self, batch: TokenBatch) -> None:
        """Append documents. ``batch.tokens`` has the dtype of the shard already."""
        ...

    def close(self) -> None:
        """Complete the file's content; the file itself stays open and is the caller's."""
        ...


class IndexWriter(Protocol):
    """Writes the document boundaries of one shard into an open file of its own."""

    def write(self, lengths: NDArray[np.int64]) -> None:
        """Append documents of so many tokens each."""
        ...

    def close(self) -> None:
        """Complete the file's content; the file itself stays open and is the caller's."""
        ...


class FormatReader(Protocol):
    """Random access to the tokens of one shard. Safe from several threads.

    A format that holds documents also has ``offsets`` (int64, documents + 1) and, for further per-token
    columns, ``column(name, start, stop)``. One whose shard is several arrays has ``gather(starts, out)`` like
    `TokenStore`; all others are gathered from the view that ``read(0, len(reader))`` gives.
    """

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage dtype, uint16 or uint32."""
        ...

    def __len__(self) -> int:
        """Tokens in the shard."""
        ...

    def read(self, start: int, stop: int) -> TokenArray:
        """Return tokens [start, stop), as a view wherever the format allows."""
        ...

    def close(self) -> None:
        """Release the file; views handed out earlier stay valid."""
        ...
