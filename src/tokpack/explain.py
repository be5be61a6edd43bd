"""Where the tokens of a training row come from: shard, document, input file and position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokpack.dataset.store import ShardStore
from tokpack.dtypes import TokenArray
from tokpack.encoding.provenance import Origin, Provenance
from tokpack.errors import MismatchError, UsageError
from tokpack.protocols import Sampler, Span

__all__ = ["Piece", "explain_row", "find_position"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of one document within one row. All ranges begin at 0 and leave out their stop."""

    store: ShardStore
    segment: int  # as in segment_ids; 1 everywhere in rows of one segment
    columns: tuple[int, int]  # in the row
    document: int  # in the split
    document_tokens: tuple[int, int]  # of the document
    document_length: int
    shard: str
    shard_tokens: tuple[int, int]  # in the shard
    tokens: TokenArray
    loss_mask: NDArray[np.uint8] | None  # 1 where the loss counts a token; None: it counts all
    origin: Origin


def explain_row(sampler: Sampler, row: int) -> list[Piece]:
    """Return the pieces of row ``row``, from left to right.

    Where a row goes on beyond ``seq_len`` tokens, the one after them is there too: it is a label only.

    Raises:
        UsageError: the rows do not come from a dataset on disk.
    """
    pieces: list[Piece] = []
    provenance: dict[ShardStore, Provenance] = {}  # one each, since it keeps what it has read
    for segment, span in enumerate(sampler.trace(row), start=1):
        if not isinstance(span.store, ShardStore):
            raise UsageError("only rows of a dataset on disk can be explained; open it with open_dataset")
        known = provenance.setdefault(span.store, Provenance(span.store.dataset))
        for start, stop in _within_documents(span):
            column = pieces[-1].columns[1] if pieces else 0
            pieces.append(_piece(span.store, start, stop, segment, column, known))
    return pieces


def _within_documents(span: Span) -> Iterator[tuple[int, int]]:
    start = span.start
    while start < span.stop:
        document = int(np.searchsorted(span.store.offsets, start, side="right"))
        stop = min(int(span.store.offsets[document]), span.stop)
        yield start, stop
        start = stop


def _piece(
    store: ShardStore, start: int, stop: int, segment: int, column: int, provenance: Provenance
) -> Piece:
    document = int(np.searchsorted(store.offsets, start, side="right")) - 1
    begin, end = store.offsets[document : document + 2].tolist()
    shard, place = store.locate(start)
    return Piece(
        store=store,
        segment=segment,
        columns=(column, column + stop - start),
        document=document,
        document_tokens=(start - begin, stop - begin),
        document_length=end - begin,
        shard=shard.file.name,
        shard_tokens=(place, place + stop - start),
        tokens=store.read(start, stop),
        loss_mask=None if store.loss_mask is None else store.loss_mask.read(start, stop),
        origin=provenance.origin(store.name, document),
    )


def find_position(piece: Piece, folder: Path) -> tuple[str, int]:
    """Return the input file of a piece's document and where the document begins in it, in bytes or rows.

    Reads the inputs in ``folder`` again, one unit of work of them, and compares the tokens.

    Raises:
        StorageError: an input is not there.
        MismatchError: the input no longer gives these tokens.
    """
    number = piece.origin.number
    start, stop = piece.document_tokens
    for found in Provenance(piece.store.dataset).encode_again(piece.origin.unit, folder):
        if found.split != piece.store.name:
            continue
        if number == 0:
            if len(found.tokens) == piece.document_length and np.array_equal(
                found.tokens[start:stop], piece.tokens
            ):
                return found.source, found.position
            break
        number -= 1
    raise MismatchError(
        f"document {piece.document:,} is no longer what the inputs in {folder} give; "
        f"run `tokpack verify {piece.store.dataset.path} --source {folder}`"
    )
