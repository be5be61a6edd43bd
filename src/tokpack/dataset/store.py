"""Splits of a dataset as one axis of tokens, and the datasets that hold them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokpack.batches import TokenBatch, iter_ranges
from tokpack.dataset.axis import ArrayColumn, Axis, Windows, open_columns, starts_from_sizes
from tokpack.dataset.digest import LogicalDigest
from tokpack.dataset.manifest import MANIFEST_NAME, FileInfo, Manifest, Shard, Split, read_manifest
from tokpack.dtypes import COLUMN_DTYPES, DTYPES, MASKS, TokenArray
from tokpack.errors import DamagedError, StorageError, UsageError
from tokpack.plugins import Plugins, discover
from tokpack.protocols import FormatReader, TokenColumn, Tokenizer, TokenizerOptions
from tokpack.references import Reference
from tokpack.specs import FormatSpec, load

__all__ = ["ArrayStore", "Dataset", "ShardStore", "open_dataset"]


class ArrayStore:
    """A `TokenStore` over arrays in memory: for tests, raw files and texts that need no dataset on disk.

    ``tokens`` is uint16 or uint32; ``offsets`` (int64, documents + 1) default to one document; ``loss_mask``
    (uint8, one per token) is 1 where the loss counts a token as a label.
    """

    def __init__(
        self,
        tokens: TokenArray,
        offsets: NDArray[np.int64] | None = None,
        *,
        loss_mask: NDArray[np.uint8] | None = None,
        vocab_size: int,
        tokenizer_fingerprint: str = "",
    ) -> None:
        self._tokens = tokens
        self._windows = Windows(tokens)
        self.loss_mask = None if loss_mask is None else ArrayColumn(loss_mask)
        self.offsets = np.array([0, len(tokens)], dtype=np.int64) if offsets is None else offsets
        self.vocab_size = vocab_size
        self.tokenizer_fingerprint = tokenizer_fingerprint
        self.memory_mapped = True

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage dtype."""
        return self._tokens.dtype

    @property
    def num_documents(self) -> int:
        """Documents in the store."""
        return len(self.offsets) - 1

    @cached_property
    def fingerprint(self) -> str:
        """Logical digest of documents and tokens."""
        columns = {} if self.loss_mask is None else {"loss_mask": self.loss_mask.read(0, len(self))}
        digest = LogicalDigest(self.vocab_size, columns)
        digest.update(TokenBatch(self._tokens, self.offsets, columns))
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._tokens)

    def read(self, start: int, stop: int) -> TokenArray:
        """Return tokens [start, stop) as a view."""
        return self._tokens[start:stop]

    def gather(self, starts: NDArray[np.int64], out: TokenArray) -> None:
        """Fill ``out`` (rows, length) with tokens [starts[i], starts[i] + length)."""
        self._windows.gather(starts, out)


class ShardStore:
    """A `TokenStore` over the shards of one split. Shards are opened on first use."""

    def __init__(self, dataset: Dataset, name: str) -> None:
        split = dataset.manifest.splits[name]
        self.dataset = dataset
        self._shards = split.shards
        self._starts = starts_from_sizes([shard.tokens for shard in split.shards])
        self._documents = starts_from_sizes([shard.documents for shard in split.shards])
        if (self._starts[-1], self._documents[-1]) != (split.tokens, split.documents):
            raise DamagedError(
                f"{dataset.path / MANIFEST_NAME}: the shards of {name} hold {self._starts[-1]:,} tokens in "
                f"{self._documents[-1]:,} documents, the split {split.tokens:,} in {split.documents:,}; "
                "restore it from a copy or encode again"
            )
        _check_files(dataset, split)
        self._readers: list[FormatReader | None] = [None] * len(split.shards)
        self._columns: list[Mapping[str, TokenColumn] | None] = [None] * len(split.shards)
        self._tokens = Axis(self._starts, DTYPES[dataset.manifest.dtype], self.reader)
        self.name = name
        self.fingerprint = split.digest

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage dtype."""
        return DTYPES[self.dataset.manifest.dtype]

    @property
    def vocab_size(self) -> int:
        """Largest id + 1 of the tokenizer."""
        return self.dataset.manifest.tokenizer.vocab_size

    @property
    def tokenizer_fingerprint(self) -> str:
        """Identity of the tokenizer."""
        return self.dataset.manifest.tokenizer.fingerprint

    @property
    def memory_mapped(self) -> bool:
        """Whether opening and reading leaves the tokens on disk."""
        return self.dataset.format.memory_mapped

    @property
    def num_documents(self) -> int:
        """Documents in the split."""
        return self._documents[-1]

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Document boundaries over the whole split, int64 of shape (documents + 1,)."""
        if len(self._shards) == 1:
            return self.shard_offsets(0)
        parts = [self.shard_offsets(index) for index in range(len(self._shards))]
        # Only now the number of documents is more than a claim of the manifest.
        offsets = np.zeros(self.num_documents + 1, dtype=np.int64)
        for index, part in enumerate(parts):
            first = self._documents[index]
            offsets[first + 1 : first + len(part)] = part[1:] + self._starts[index]
        return offsets

    def shard_offsets(self, index: int) -> NDArray[np.int64]:
        """Document boundaries within shard ``index``, int64 of shape (documents + 1,), first 0."""
        shard = self._shards[index]
        if shard.offsets is not None:
            path = self.dataset.check_file(shard.offsets)
            offsets: NDArray[np.int64] = load(self.dataset.format.index_reader)(path, self.dtype)
        elif self.dataset.format.holds_documents:
            offsets = np.asarray(self.reader(index).offsets)  # type: ignore[attr-defined]
        else:
            raise DamagedError(
                f"{self.dataset.path / MANIFEST_NAME} names no document boundaries for {shard.file.name}; "
                "restore it from a copy or encode again"
            )
        if len(offsets) != shard.documents + 1 or offsets[0] != 0 or offsets[-1] != shard.tokens:
            raise DamagedError(
                f"{shard.file.name}: its document boundaries do not fit {shard.documents:,} documents and "
                f"{shard.tokens:,} tokens; run `tokpack verify {self.dataset.path}`"
            )
        return offsets

    def reader(self, index: int) -> FormatReader:
        """Open shard ``index``, checking its size first."""
        if (reader := self._readers[index]) is None:
            shard = self._shards[index]
            path = self.dataset.check_file(shard.file)
            reader = load(self.dataset.format.reader)(path, self.dtype)
            if len(reader) != shard.tokens or reader.dtype != self.dtype:
                raise DamagedError(
                    f"{path} holds {len(reader):,} tokens of {reader.dtype}, the manifest says "
                    f"{shard.tokens:,} of {self.dtype}; run `tokpack verify {self.dataset.path}`"
                )
            self._readers[index] = reader
        return reader

    def locate(self, position: int) -> tuple[Shard, int]:
        """Return the shard that holds token ``position`` and the position within it."""
        index = bisect_right(self._starts, position) - 1
        return self._shards[index], position - self._starts[index]

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, start: int, stop: int) -> TokenArray:
        """Return tokens [start, stop): a view inside one memory-mapped shard, a copy across shards."""
        return self._tokens.read(start, stop)

    def gather(self, starts: NDArray[np.int64], out: TokenArray) -> None:
        """Fill ``out`` (rows, length) with tokens [starts[i], starts[i] + length)."""
        self._tokens.gather(starts, out)

    def tokens(self, start: int = 0, stop: int | None = None) -> TokenArray:
        """Return tokens [start, stop) of the split; to the end by default."""
        return self.read(start, len(self) if stop is None else stop)

    def document(self, index: int) -> TokenArray:
        """Return the tokens of document ``index``.

        Raises:
            UsageError: there is no such document.
        """
        if not 0 <= index < self.num_documents:
            raise UsageError(
                f"document {index:,} does not exist; {self.name} holds {self.num_documents:,} documents "
                f"(0 to {self.num_documents - 1:,})"
            )
        shard = bisect_right(self._documents, index) - 1
        local = index - self._documents[shard]
        start, stop = self.shard_offsets(shard)[local : local + 2].tolist()
        return self.reader(shard).read(start, stop)

    @cached_property
    def loss_mask(self) -> TokenColumn | None:
        """1 where the loss counts a token as a label, 0 where a model only reads it; None: all count.

        That is the column ``loss_mask`` of chat data, or the ``attention_mask`` of padded documents.
        """
        names = [name for name in MASKS if name in self.dataset.manifest.columns]
        return self.column(names[0]) if names else None

    def column(self, name: str) -> TokenColumn:
        """Return a further per-token column, such as ``loss_mask``. Raises UsageError if there is none."""
        if name not in self.dataset.manifest.columns:
            raise UsageError(
                f"{self.dataset.path} holds no column {name!r}; "
                f"it holds: {', '.join(self.dataset.manifest.columns) or 'tokens only'}"
            )
        return Axis(self._starts, COLUMN_DTYPES[name], partial(self._shard_column, name))

    def _shard_column(self, name: str, index: int) -> TokenColumn:
        return self.shard_columns(index)[name]

    def shard_columns(self, index: int) -> Mapping[str, TokenColumn]:
        """Open the further columns of shard ``index``."""
        if (columns := self._columns[index]) is None:
            names, locate = self.dataset.manifest.columns, self.dataset.check_file
            columns = open_columns(self.reader(index), self._shards[index], names, locate)
            self._columns[index] = columns
        return columns

    def batches(self, tokens: int = 1 << 20) -> Iterator[TokenBatch]:
        """Yield all documents in order, in batches of about ``tokens`` tokens, with their columns."""
        for index in range(len(self._shards)):
            reader, offsets = self.reader(index), self.shard_offsets(index)
            yield from shard_batches(reader, offsets, self.shard_columns(index), tokens)


def _check_files(dataset: Dataset, split: Split) -> None:
    """Refuse a manifest that names other files for a shard than its format has."""
    columns = set(dataset.manifest.columns)
    if unknown := sorted(columns - COLUMN_DTYPES.keys()):
        raise DamagedError(f"{dataset.path / MANIFEST_NAME}: unknown column {unknown[0]!r}; upgrade tokpack")
    beside = columns - set(dataset.format.columns)
    for shard in split.shards:
        if (shard.offsets is None) != dataset.format.holds_documents or set(shard.columns) != beside:
            raise DamagedError(
                f"{dataset.path / MANIFEST_NAME}: the files of {shard.file.name} are not those of a shard of "
                f"{dataset.format.name}; restore it from a copy or encode again"
            )


def shard_batches(
    reader: FormatReader,
    offsets: NDArray[np.int64],
    columns: Mapping[str, TokenColumn],
    tokens: int = 1 << 20,
) -> Iterator[TokenBatch]:
    """Yield the documents of one shard in order, in batches of about ``tokens`` tokens."""
    for first, last in iter_ranges(offsets, tokens):
        start, stop = int(offsets[first]), int(offsets[last])
        values = {name: column.read(start, stop) for name, column in columns.items()}
        yield TokenBatch(reader.read(start, stop), offsets[first : last + 1] - start, values)


class Dataset(Mapping[str, ShardStore]):
    """A complete dataset: its manifest, and its splits by name. Opening it reads no tokens."""

    def __init__(self, path: Path, manifest: Manifest, plugins: Plugins) -> None:
        self.path = path
        self.manifest = manifest
        self.format: FormatSpec = plugins.formats[manifest.format.name]
        self._plugins = plugins
        self._stores = {name: ShardStore(self, name) for name in manifest.splits}

    def __getitem__(self, split: str) -> ShardStore:
        if split not in self._stores:
            raise UsageError(
                f"{self.path} has no split {split!r}; it has: {', '.join(self._stores)}. "
                "`tokpack encode --validation PATH` or `--val-fraction 0.005` makes a validation split"
            )
        return self._stores[split]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stores)

    def __len__(self) -> int:
        return len(self._stores)

    def __contains__(self, split: object) -> bool:
        return split in self._stores

    def check_file(self, info: FileInfo) -> Path:
        """Return the path of a file of the dataset after a look at its kind and size.

        Raises:
            DamagedError: missing, not a regular file, or of another size than the manifest says.
        """
        path = self.path / info.name
        try:
            status = path.lstat()
        except FileNotFoundError:
            raise DamagedError(f"{path} is missing; restore it from a copy or encode again") from None
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        if path.is_symlink() or not path.is_file():
            raise DamagedError(f"{path} is not a regular file; datasets hold no links or devices")
        if status.st_size != info.size_bytes:
            raise DamagedError(
                f"{path} has {status.st_size:,} bytes, the manifest says {info.size_bytes:,}; "
                f"run `tokpack verify {self.path}`"
            )
        return path

    def open_tokenizer(self) -> Tokenizer:
        """Open the tokenizer stored inside the dataset; needs its backend, but no network."""
        backend = Reference.parse(self.manifest.tokenizer.reference).backend
        spec = self._plugins.tokenizers[backend]
        model = str(self.path / "tokenizer") if self.manifest.tokenizer.files else ""
        tokenizer: Tokenizer = load(spec.open)(model, TokenizerOptions())
        return tokenizer


def open_dataset(path: str | Path, *, plugins: Plugins | None = None) -> Dataset:
    """Open a complete dataset; ``dataset["train"].tokens(0, 1000)`` reads from it.

    Raises:
        IncompleteError: it was begun and never finished.
        StorageError: there is none, or it cannot be read.
        DamagedError: its manifest is damaged.
        UnknownPluginError: the format it is stored in is not installed.
    """
    directory = Path(path)
    return Dataset(directory, read_manifest(directory), plugins or discover())
