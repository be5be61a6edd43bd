"""Token files of other tools as a `TokenStore`. There is no manifest, so the caller says what is in them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from tokpack.dataset.store import ArrayStore
from tokpack.dtypes import DTYPES
from tokpack.errors import DamagedError, StorageError
from tokpack_megatron.index import CODES, read_offsets
from tokpack_megatron.llmc import LlmcReader
from tokpack_megatron.tokens import TokensReader

__all__ = ["open_llmc", "open_megatron"]


def open_megatron(prefix: str | Path, *, vocab_size: int) -> ArrayStore:
    """Open ``PREFIX.bin`` and ``PREFIX.idx``; tokens stay on disk, documents are those of the index.

    Raises:
        DamagedError: the two contradict each other, or hold something else than uint16 or int32 tokens.
        StorageError: one of them cannot be read.
    """
    index, tokens = Path(f"{prefix}.idx"), Path(f"{prefix}.bin")
    code = _head(index, 18)[17]
    known = {number: DTYPES[name] for name, number in CODES.items()}
    if code not in known:
        raise DamagedError(f"{index} has dtype code {code}; tokpack reads uint16 (8) and int32 (4)")
    reader, offsets = TokensReader(tokens, known[code]), read_offsets(index, known[code])
    if offsets[-1] != len(reader):
        raise DamagedError(f"{tokens} holds {len(reader):,} tokens, its index tells of {int(offsets[-1]):,}")
    return ArrayStore(reader.read(0, len(reader)), offsets, vocab_size=vocab_size)


def open_llmc(path: str | Path, *, vocab_size: int, document_start: int | None = None) -> ArrayStore:
    """Open one shard of llm.c; a document begins at each id ``document_start``, or is the whole shard.

    Raises:
        DamagedError: it is no such file, or was cut off.
        StorageError: it cannot be read.
    """
    path = Path(path)
    wide = struct.unpack_from("<4i", _head(path, 16))
    dtype: np.dtype[Any] = DTYPES["uint32" if wide[0] == 20240801 or wide[3] == 4 else "uint16"]
    reader = LlmcReader(path, dtype)
    tokens = reader.read(0, len(reader))
    if document_start is None:
        return ArrayStore(tokens, vocab_size=vocab_size)
    starts = np.flatnonzero(tokens == document_start)
    inner = starts[starts > 0]  # a shard may begin within a document
    offsets = np.concatenate([[0], inner, [len(tokens)]]).astype(np.int64)
    return ArrayStore(tokens, offsets, vocab_size=vocab_size)


def _head(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(size)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    if len(head) < size:
        raise DamagedError(f"{path} has {len(head)} bytes, too few for its header; get the file again")
    return head
