"""Touching the pages of a dataset ahead of the rows that need them."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from tokpack.errors import TokpackError
from tokpack.protocols import TokenStore

__all__ = ["fits_in_memory", "populate", "populate_in_background"]

_PAGE_BYTES = 4096
_CHUNK_TOKENS = 1 << 20


def fits_in_memory(*stores: TokenStore, share: float = 0.5) -> bool:
    """Return whether all tokens together take at most ``share`` of the machine's physical memory."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return sum(len(store) * store.dtype.itemsize for store in stores) <= share * memory_bytes


def populate(store: TokenStore) -> int:
    """Touch every page of a memory-mapped store and return the bytes touched, 0 for other stores.

    The first access to a mapped page costs a fault, even where the file is cached: random rows of a fresh
    mapping take many times longer than of one that was touched. NumPy lets other threads run meanwhile.
    """
    if not store.memory_mapped:
        return 0
    stride = _PAGE_BYTES // store.dtype.itemsize
    for start in range(0, len(store), _CHUNK_TOKENS):
        store.read(start, min(start + _CHUNK_TOKENS, len(store)))[::stride].max()
    return len(store) * store.dtype.itemsize


def populate_in_background(*stores: TokenStore) -> threading.Thread | None:
    """Populate mapped stores in a thread, if all fit in memory; return the thread, or None if they do not.

    A loop may start at once: rows that come first fault in their own pages.
    """
    mapped = [store for store in stores if store.memory_mapped]
    if not mapped or not fits_in_memory(*mapped):
        return None

    def work() -> None:
        with suppress(TokpackError):  # whoever needs a row of what cannot be read is told so
            for store in mapped:
                populate(store)

    thread = threading.Thread(target=work, name="tokpack-populate", daemon=True)
    thread.start()
    return thread
