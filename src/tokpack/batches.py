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

__all__ = ["IGNORED_LABEL", "Batch", "TextBatch", "TokenBatch", "iter_ranges", "offsets_from_lengths"]


def offsets_from_lengths(lengths: Iterable[int] | NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return offsets (int64, ``count + 1``, first 0) from ``count`` lengths."""
    offsets = np.zeros(count + 1, dtype=np.int64)
    values = lengths if isinstance(lengths, np.ndarray) else np.fromiter(lengths, np.int64, count)
    np.cumsum(values, out=offsets[1:])
    return offsets


def iter_ranges(offsets: NDArray[np.int64], size: int) -> Iterator[tuple[int, int]]:
    """Cut items into consecutive ranges [first, last) of about ``size`` elements, one item at the least."""
    first, count = 0, len(offsets) - 1
    while first < count:
        last = int(np.searchsorted(offsets, offsets[first] + size, side="right")) - 1
        last = min(max(last, first + 1), count)
        yield first, last
        first = last


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Documents as valid UTF-8, back to back.

    ``data`` is uint8 with ``offsets[-1]`` elements; document ``i`` is ``data[offsets[i]:offsets[i + 1]]``.
    Whoever builds one has settled invalid UTF-8 and lone surrogates already. ``columns`` holds further arrays
    of one value per byte, such as ``trained`` (uint8, of chat data); most batches have none.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

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

    @property
    def lengths(self) -> NDArray[np.int64]:
        """UTF-8 bytes per document, int64 of shape (documents,)."""
        return np.diff(self.offsets)

    def select(self, keep: NDArray[np.bool_]) -> TextBatch:
        """Return the documents where ``keep`` (documents,) is true; itself where all are."""
        if keep.all():
            return self
        lengths = self.lengths
        chosen = np.repeat(keep, lengths)
        offsets = offsets_from_lengths(lengths[keep], int(keep.sum()))
        return TextBatch(
            self.data[chosen], offsets, {name: values[chosen] for name, values in self.columns.items()}
        )


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Tokenized documents, back to back.

    ``tokens`` is uint16 or uint32 with ``offsets[-1]`` elements; document ``i`` is
    ``tokens[offsets[i]:offsets[i + 1]]``. ``columns`` holds further arrays of one value per token under the
    field's names, such as ``loss_mask`` (uint8); most batches have none. ``texts`` are the documents' texts,
    for formats that store them on request.
    """

    tokens: TokenArray
    offsets: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    texts: TextBatch | None = None

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

    def select(self, keep: NDArray[np.bool_]) -> TokenBatch:
        """Return the documents where ``keep`` (documents,) is true; itself where all are."""
        if keep.all():
            return self
        lengths = self.lengths
        chosen = np.repeat(keep, lengths)
        offsets = offsets_from_lengths(lengths[keep], int(keep.sum()))
        return TokenBatch(
            self.tokens[chosen], offsets, {name: values[chosen] for name, values in self.columns.items()}
        )


#: The label that losses leave out: padding, the last token of a segment, and what a loss mask says.
IGNORED_LABEL = -100


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows for training, in the storage dtype, in memory that the caller owns.

    ``tokens`` (rows, seq_len + 1) is uint16 or uint32: a row is a window one token longer than ``seq_len``,
    so that inputs and labels are the same memory seen twice. ``segment_ids`` (rows, seq_len + 1), uint16,
    says which document of its row a token belongs to: 1, 2, … from the left, and 0 for padding. None stands
    for rows of one segment without padding, whatever documents they cross. ``loss_mask`` (rows, seq_len + 1),
    uint8, is 1 where the loss counts a token as a label; None: it counts all of them.
    """

    tokens: TokenArray
    segment_ids: NDArray[np.uint16] | None = None
    loss_mask: NDArray[np.uint8] | None = None

    @classmethod
    def empty(
        cls,
        rows: int,
        seq_len: int,
        dtype: np.dtype[Any],
        *,
        segmented: bool = False,
        masked: bool = False,
    ) -> Batch:
        """Return an uninitialised batch for a sampler to fill."""
        shape = (rows, seq_len + 1)
        return cls(
            np.empty(shape, dtype),
            np.empty(shape, np.uint16) if segmented else None,
            np.empty(shape, np.uint8) if masked else None,
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice) -> Batch:
        """Return some of the rows, as views."""
        segment_ids, loss_mask = self.segment_ids, self.loss_mask
        return Batch(
            self.tokens[rows],
            None if segment_ids is None else segment_ids[rows],
            None if loss_mask is None else loss_mask[rows],
        )

    @property
    def seq_len(self) -> int:
        """Tokens that a model sees per row."""
        return int(self.tokens.shape[1]) - 1

    @property
    def input_ids(self) -> TokenArray:
        """What the model sees: a view, (rows, seq_len)."""
        return self.tokens[:, :-1]

    def labels(self) -> NDArray[np.int64]:
        """Return the next token at every position, int64 (rows, seq_len), -100 where there is none.

        There is none on padding, where the next token belongs to another segment, and where its mask is 0.
        """
        labels = self.tokens[:, 1:].astype(np.int64)
        if self.segment_ids is not None:
            here, after = self.segment_ids[:, :-1], self.segment_ids[:, 1:]
            labels[(here != after) | (here == 0)] = IGNORED_LABEL
        if self.loss_mask is not None:
            labels[self.loss_mask[:, 1:] == 0] = IGNORED_LABEL
        return labels

    def position_ids(self) -> NDArray[np.int32]:
        """Return positions that restart at 0 in every segment, int32 (rows, seq_len)."""
        bounds = self.cu_seqlens()
        begins = np.repeat(bounds[:-1], np.diff(bounds))
        positions = np.arange(len(begins), dtype=np.int32) - begins
        return positions.reshape(len(self), self.seq_len)

    def cu_seqlens(self) -> NDArray[np.int32]:
        """Return where segments begin in the flattened ``input_ids``, and their end: int32 (segments + 1,).

        No segment crosses a row; a run of padding counts as one. This is the form that attention over
        variable lengths takes (``flash_attn_varlen_func``, ``torch.nn.attention.varlen``).
        """
        rows, width = self.tokens.shape
        size = rows * self.seq_len
        if self.segment_ids is None:
            return np.arange(0, size + 1, self.seq_len, dtype=np.int32)
        # One comparison over all rows at once, label column included, is quicker than one without it.
        flat = self.segment_ids.reshape(-1)
        begins = np.empty((rows, width), dtype=np.bool_)
        np.not_equal(flat[1:], flat[:-1], out=begins.reshape(-1)[1:])
        begins[:, 0] = True
        begins[:, -1] = False
        places = np.flatnonzero(begins)
        bounds = np.empty(len(places) + 1, dtype=np.int32)
        bounds[:-1] = places - places // width  # each row before has one column more than input_ids
        bounds[-1] = size
        return bounds
