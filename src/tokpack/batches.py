"""Documents and tokens as flat arrays with offsets: the unit of exchange everywhere.

The layout is that of Arrow's large lists: item ``i`` is ``data[offsets[i]:offsets[i + 1]]``, with
``offsets`` of dtype int64, length n + 1, starting at 0. No lists of lists on the hot path.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokpack.dtypes import TokenArray

__all__ = ["TextBatch", "TokenBatch", "offsets_from_lengths"]


def offsets_from_lengths(lengths: Iterable[int] | NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return offsets (int64, ``count + 1``, first 0) from ``count`` lengths."""
    offsets = np.zeros(count + 1, dtype=np.int64)
    values = lengths if isinstance(lengths, np.ndarray) else np.fromiter(lengths, np.int64, count)
    np.cumsum(values, out=offsets[1:])
    return offsets


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Documents as valid UTF-8, back to back.

    ``data`` is uint8 with ``offsets[-1]`` elements; document ``i`` is ``data[offsets[i]:offsets[i + 1]]``.
    Whoever builds one has settled invalid UTF-8 and lone surrogates already.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @classmethod
    def from_texts(cls, texts: Sequence[str]) -> TextBatch:
        """Pack strings. Raises UnicodeEncodeError where one holds a lone surrogate."""
        return cls.from_utf8([text.encode() for text in texts])

    @classmethod
    def from_utf8(cls, documents: Sequence[bytes | memoryview]) -> TextBatch:
        """Pack documents that are valid UTF-8 already; this is not checked again."""
        data = np.frombuffer(b"".join(documents), dtype=np.uint8)
        return cls(data, offsets_from_lengths(map(len, documents), len(documents)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        return str(self.data.data[self.offsets[index] : self.offsets[index + 1]], "utf-8")

    def __iter__(self) -> Iterator[str]:
        view, edges = self.data.data, self.offsets.tolist()
        return (str(view[a:b], "utf-8") for a, b in itertools.pairwise(edges))

    @property
    def nbytes(self) -> int:
        """UTF-8 bytes in all documents together."""
        return int(self.offsets[-1])


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Tokenized documents, back to back.

    ``tokens`` is uint16 or uint32 with ``offsets[-1]`` elements; document ``i`` is
    ``tokens[offsets[i]:offsets[i + 1]]``. ``columns`` holds further arrays of one value per token under the
    field's names, such as ``loss_mask`` (uint8); most batches have none.
    """

    tokens: TokenArray
    offsets: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def from_documents(cls, documents: Sequence[Sequence[int] | NDArray[Any]]) -> TokenBatch:
        """Pack one array of ids per document (uint32); meant for tests and small inputs."""
        arrays = [np.asarray(document, dtype=np.uint32) for document in documents]
        tokens = np.concatenate(arrays) if arrays else np.empty(0, dtype=np.uint32)
        return cls(tokens, offsets_from_lengths(map(len, arrays), len(arrays)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> TokenArray:
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[TokenArray]:
        return (self[index] for index in range(len(self)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per document, int64 of shape (documents,)."""
        return np.diff(self.offsets)
