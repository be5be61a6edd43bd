"""From a dataset to a folder of packed rows, and the comparison of strategies before that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tokpack import __version__
from tokpack.batches import Batch
from tokpack.dataset.manifest import SUMS_NAME, FileInfo, TokenizerInfo
from tokpack.dataset.publish import write_file
from tokpack.dataset.store import Dataset, ShardStore
from tokpack.encoding.workspace import open_workspace
from tokpack.errors import DamagedError, MismatchError
from tokpack.packed_rows.files import Block, Layout, RowFormat, row_format
from tokpack.protocols import TokenColumn, TokenStore
from tokpack.samplers.packed import Packed, check_packable
from tokpack.samplers.packing import STRATEGIES, LongDocuments, PackingLedger, Strategy, plan_rows

__all__ = ["Comparison", "PackedRows", "compare_strategies", "pack_dataset"]

MANIFEST_NAME = "packed.json"

_BLOCK_TOKENS = 1 << 20
_SHARD_TOKENS = 1 << 28


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one strategy would give, and how long its plan took."""

    strategy: Strategy
    ledger: PackingLedger
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows:
    """``packed.json`` of a folder of packed rows."""

    version: int = 1
    created_by: str
    format: str
    files: list[FileInfo]
    columns: dict[str, str]  # dtypes; every column is (rows, seq_len)
    digest: str  # SHA-256 of all columns, the same in every format
    pad_id: int  # stands where segment_ids is 0
    split: str
    dataset: str  # logical digest of the split
    tokenizer: str
    tokenizer_fingerprint: str
    strategy: str
    long_documents: str
    seed: int
    shuffle: bool
    ledger: PackingLedger


def compare_strategies(
    store: TokenStore, seq_len: int, *, long_documents: LongDocuments = "split", skip_empty: bool = False
) -> list[Comparison]:
    """Plan with every strategy; reads document boundaries and no tokens. Raises UsageError."""
    check_packable(store, seq_len, skip_empty=skip_empty)
    compared = []
    for strategy in STRATEGIES:
        begin = perf_counter()
        plan = plan_rows(store.offsets, seq_len, strategy=strategy, long_documents=long_documents)
        compared.append(Comparison(strategy, plan.ledger, perf_counter() - begin))
    return compared


def pack_dataset(
    dataset: Dataset,
    output: str | Path,
    *,
    seq_len: int,
    split: str = "train",
    strategy: Strategy = "best-fit",
    long_documents: LongDocuments = "split",
    skip_empty: bool = False,
    shuffle: bool = True,
    seed: int = 0,
    format_name: str = "parquet",
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> PackedRows:
    """Write all rows of one epoch of the sampler `packed` to the new folder ``output``.

    Columns are ``input_ids``, ``segment_ids``, ``position_ids`` and whatever else the dataset holds per token
    (``loss_mask``). Everything is read back before ``output`` gets its name; ``progress`` is called as
    progress(phase, rows done, rows).

    Raises:
        UsageError: the dataset cannot be packed so, or ``output`` exists and ``overwrite`` is not set.
        MismatchError: an unfinished dataset lies where the rows would be written.
        DamagedError: what was read back is not what was written.
        StorageError: the operating system refused.
    """
    store = dataset[split]
    form = row_format(format_name)
    sampler = Packed(
        store,
        seq_len=seq_len,
        strategy=strategy,
        long_documents=long_documents,
        skip_empty=skip_empty,
        shuffle=shuffle,
        seed=seed,
    )
    tokenizer = dataset.manifest.tokenizer
    pad_id = _pad_id(tokenizer)
    layout = _layout(sampler, dataset.manifest.columns, form)
    with open_workspace(Path(output), overwrite=overwrite) as workspace:
        if workspace.has_work:
            raise MismatchError(
                f"{workspace.folder} holds unfinished work of `tokpack encode`; choose another --output, "
                "or give that work up with --overwrite"
            )
        folder = workspace.dataset
        written, found = _Digest(layout), _Digest(layout)
        blocks = _blocks(sampler, store, dataset.manifest.columns, layout, pad_id)
        files = form.write(folder, layout, _watch(blocks, written, "write", layout.rows, progress))
        for _ in _watch(form.read(folder, layout, files), found, "verify", layout.rows, progress):
            pass
        if found.hexdigest() != written.hexdigest():
            raise DamagedError(f"rows read back from {folder} differ from those written; check the disk")
        manifest = PackedRows(
            created_by=f"tokpack {__version__}",
            format=form.name,
            files=files,
            columns={name: dtype.name for name, dtype in layout.columns.items()},
            digest=written.hexdigest(),
            pad_id=pad_id,
            split=split,
            dataset=store.fingerprint,
            tokenizer=tokenizer.reference,
            tokenizer_fingerprint=tokenizer.fingerprint,
            strategy=strategy,
            long_documents=long_documents,
            seed=seed,
            shuffle=shuffle,
            ledger=sampler.plan.ledger,
        )
        content = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
        sums = [*files, write_file(folder / MANIFEST_NAME, content)]
        write_file(folder / SUMS_NAME, "".join(f"{file.sha256}  {file.name}\n" for file in sums).encode())
        workspace.commit(overwrite=overwrite)
    return manifest


def _pad_id(tokenizer: TokenizerInfo) -> int:
    choices = (tokenizer.pad_id, tokenizer.eos_id, 0)
    return next(choice for choice in choices if choice is not None)


def _layout(sampler: Packed, further: list[str], form: RowFormat) -> Layout:
    narrow = {
        "input_ids": sampler.dtype,
        "segment_ids": np.dtype("<u2"),
        "position_ids": np.dtype("<u2" if sampler.seq_len <= 1 << 16 else "<u4"),
    } | {name: np.dtype("u1") for name in further}
    wide = np.dtype("<i4" if sampler.vocab_size <= 1 << 31 else "<i8")
    columns = narrow if form.narrow else dict.fromkeys(narrow, wide)
    block_rows = max(1, _BLOCK_TOKENS // sampler.seq_len)
    shard_rows = block_rows * (_SHARD_TOKENS // _BLOCK_TOKENS)
    return Layout(len(sampler.plan), sampler.seq_len, columns, block_rows, shard_rows)


def _blocks(
    sampler: Packed, store: ShardStore, further: list[str], layout: Layout, pad_id: int
) -> Iterator[Block]:
    columns = {name: store.column(name) for name in further}
    for first in range(0, layout.rows, layout.block_rows):
        rows = np.arange(first, min(first + layout.block_rows, layout.rows))
        batch = Batch.empty(len(rows), sampler.seq_len, sampler.dtype, segmented=True)
        sampler.fill(rows, batch)
        assert batch.segment_ids is not None
        segment_ids = batch.segment_ids[:, :-1]
        padding = segment_ids == 0
        batch.input_ids[padding] = pad_id
        block: dict[str, NDArray[Any]] = {
            "input_ids": batch.input_ids,
            "segment_ids": segment_ids,
            "position_ids": np.where(padding, 0, batch.position_ids()),
        }
        for name, column in columns.items():
            block[name] = np.zeros(padding.shape, np.uint8)
            block[name][~padding] = np.concatenate(
                [_column_of_row(column, sampler, row) for row in rows.tolist()]
            )
        yield block


def _column_of_row(column: TokenColumn, sampler: Packed, row: int) -> NDArray[Any]:
    """Return a column's values for the tokens that a row shows, without the one that may follow them."""
    parts = [column.read(span.start, span.stop) for span in sampler.trace(row)]
    return np.concatenate(parts)[: sampler.seq_len]


class _Digest:
    """SHA-256 over the columns' names and digests; a column's is taken of its values as 4-byte integers."""

    def __init__(self, layout: Layout) -> None:
        self._hashes = {name: hashlib.sha256() for name in layout.columns}

    def update(self, block: Block) -> None:
        for name, values in block.items():
            self._hashes[name].update(np.ascontiguousarray(values, np.dtype("<u4")).data)

    def hexdigest(self) -> str:
        total = hashlib.sha256()
        for name, column in self._hashes.items():
            total.update(name.encode() + b"\0" + column.digest())
        return total.hexdigest()


def _watch(
    blocks: Iterator[Block],
    digest: _Digest,
    phase: str,
    rows: int,
    progress: Callable[[str, int, int], None] | None,
) -> Iterator[Block]:
    done = 0
    for block in blocks:
        digest.update(block)
        done += len(next(iter(block.values())))
        if progress is not None:
            progress(phase, done, rows)
        yield block
