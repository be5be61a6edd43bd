"""Token files that other tools have written, made a dataset, with documents, digests and the tokenizer.

Such files do not say what wrote them, so the caller names the tokenizer; ids beyond its vocabulary are
refused. Where documents end is read from an index beside the file, if its format has one, else
found by an id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tokpack import __version__
from tokpack.dataset.manifest import FormatInfo, Ledger, Manifest, SourceInfo, Split
from tokpack.dataset.publish import hash_file, publish
from tokpack.dataset.shards import ShardLayout, SplitWriter
from tokpack.dataset.store import Dataset, open_dataset, shard_batches
from tokpack.dtypes import narrow, parse_dtype, token_dtype
from tokpack.encoding.convert import Counter, prove
from tokpack.encoding.describe import UNITS_NAME, describe_tokenizer, write_manifest
from tokpack.encoding.options import EncodeOptions
from tokpack.encoding.workspace import open_workspace
from tokpack.errors import DamagedError, StorageError, UsageError
from tokpack.plugins import Plugins, discover
from tokpack.protocols import FormatReader, Tokenizer
from tokpack.specs import FormatSpec, load
from tokpack.tokenizers.opening import open_tokenizer
from tokpack.tokenizers.probe import identify

__all__ = ["AdoptOptions", "adopt"]

_SCAN_TOKENS = 1 << 22  # looked through together


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptOptions:
    """What the files are, and what the dataset is to be like."""

    tokenizer: str
    layout: str  # format of the files: bin, npy, megatron, llmc, …
    dtype: str | None = None  # of the files; None: the smallest for the vocabulary
    document_start: int | None = None  # the id that begins each document
    document_end: int | None = None  # the id that ends each document; None: EOS, where no start is given
    format: str = "bin"


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    reader: FormatReader
    offsets: NDArray[np.int64]


def adopt(
    files: Mapping[str, Sequence[str | Path]],
    output: str | Path,
    options: AdoptOptions,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    plugins: Plugins | None = None,
) -> Dataset:
    """Make a dataset of token files, by split, prove it, and open it.

    ``progress(done, total)`` counts tokens; each is written once and read back once.

    Raises:
        DamagedError: a file is not of that layout, or holds ids that the tokenizer does not have.
        UsageError: there is no id to find documents by, or ``output`` exists.
        StorageError: a file cannot be read.
    """
    plugins = plugins or discover()
    layout, spec = plugins.formats[options.layout], plugins.formats[options.format]
    tokenizer = open_tokenizer(options.tokenizer, plugins=plugins)
    natural = token_dtype(tokenizer.vocab_size)
    dtype = parse_dtype(options.dtype, tokenizer.vocab_size) if options.dtype else natural
    opened = {
        split: [_open(Path(path), layout, dtype, tokenizer, options) for path in paths]
        for split, paths in files.items()
    }
    count = Counter(2 * sum(len(file.reader) for group in opened.values() for file in group), progress)
    with open_workspace(Path(output), overwrite=overwrite) as workspace:
        workspace.require_new()
        folder = workspace.dataset
        target = ShardLayout(
            folder=folder,
            format=spec,
            options={},
            dtype=natural,
            vocab_size=tokenizer.vocab_size,
            shard_bytes=spec.default_shard_bytes,
            numbered=spec.default_shard_bytes is not None,
        )
        splits = {name: _write(name, group, target, count) for name, group in opened.items()}
        manifest = _manifest(opened, splits, target, tokenizer, options)
        write_manifest(folder, manifest)
        prove(open_dataset(folder, plugins=plugins), manifest, count)
        workspace.commit(overwrite=overwrite)
    return open_dataset(output, plugins=plugins)


def _open(
    path: Path, layout: FormatSpec, dtype: np.dtype[Any], tokenizer: Tokenizer, options: AdoptOptions
) -> _File:
    if not path.exists() and (named := path.with_name(path.name + layout.suffix)).exists():
        path = named  # Megatron's prefix
    if not path.is_file():
        raise StorageError(f"{path} is no file; name token files of the layout {layout.name}")
    reader: FormatReader = load(layout.reader)(path, dtype)
    index = path.with_name(path.name.removesuffix(layout.suffix) + layout.index_suffix)
    if layout.holds_documents:
        offsets = np.asarray(reader.offsets)  # type: ignore[attr-defined]
    elif index.is_file():
        offsets = load(layout.index_reader)(index, dtype)
    else:
        offsets = _find_documents(path, reader, tokenizer, options)
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(reader) or (np.diff(offsets) < 0).any():
        raise DamagedError(f"{index} does not fit the {len(reader):,} tokens of {path.name}; get both again")
    return _File(path, reader, offsets)


def _find_documents(
    path: Path, reader: FormatReader, tokenizer: Tokenizer, options: AdoptOptions
) -> NDArray[np.int64]:
    """Cut after each ``document_end`` or before each ``document_start``; what is left is a document too."""
    at_start = options.document_start is not None
    mark = options.document_start if at_start else options.document_end
    mark = tokenizer.eos_id if mark is None else mark
    if mark is None:
        raise UsageError(
            f"{path} has no index beside it and {options.tokenizer} no EOS to find documents by; "
            "name the id with --document-end or --document-start"
        )
    total = len(reader)
    scanned = [
        np.flatnonzero(reader.read(start, min(start + _SCAN_TOKENS, total)) == mark) + start
        for start in range(0, total, _SCAN_TOKENS)
    ]
    found = np.concatenate([np.empty(0, np.int64), *scanned]) + (0 if at_start else 1)
    inner = found[(found > 0) & (found < total)]
    return np.concatenate([[0], inner, [total]] if total else [[0]]).astype(np.int64)


def _write(name: str, files: Sequence[_File], layout: ShardLayout, count: Counter) -> Split:
    writer = SplitWriter(layout, name)
    try:
        for file in files:
            for batch in shard_batches(file.reader, file.offsets, {}):
                _check_ids(file.path, batch.tokens, layout.vocab_size)
                for _ in writer.write(replace(batch, tokens=narrow(batch.tokens, layout.dtype))):
                    pass
                count.add(len(batch.tokens))
        writer.publish()
    except BaseException as error:
        writer.abandon(error)
        raise
    split = writer.summary()
    if not split.tokens:
        raise UsageError(f"there are no tokens in {', '.join(str(file.path) for file in files)}")
    return split


def _check_ids(path: Path, tokens: NDArray[Any], vocab_size: int) -> None:
    if len(tokens) and (largest := int(tokens.max())) >= vocab_size:
        raise DamagedError(
            f"{path} holds id {largest:,}, but the tokenizer has {vocab_size:,} ids; "
            "name the tokenizer and the --dtype that the file was written with"
        )


def _manifest(
    opened: Mapping[str, Sequence[_File]],
    splits: Mapping[str, Split],
    layout: ShardLayout,
    tokenizer: Tokenizer,
    options: AdoptOptions,
) -> Manifest:
    with publish(layout.folder / UNITS_NAME) as units:
        for number, (name, file) in enumerate(_each(opened)):
            counts = {name: [len(file.offsets) - 1, len(file.reader)]}
            line = {"parts": [[number, 0, len(file.reader)]], "splits": counts}
            units.write(msgspec.json.encode(line) + b"\n")
    read = sum(split.documents for split in splits.values())
    eos = all(_ends_with(tokenizer.eos_id, file) for _, file in _each(opened))
    recorded = EncodeOptions(tokenizer=options.tokenizer, bos=False, eos=eos)
    return Manifest(
        created_by=f"tokpack {__version__}",
        dtype=layout.dtype.name,
        format=FormatInfo(name=layout.format.name),
        tokenizer=describe_tokenizer(tokenizer, identify(tokenizer), options.tokenizer, layout.folder),
        options=msgspec.to_builtins(recorded.recorded()),
        sources=[_source(file.path, options.layout, name) for name, file in _each(opened)],
        ledger=Ledger(read=read, encoded=read),
        splits=dict(splits),
        extra=[units.info(UNITS_NAME)],
    )


def _ends_with(token_id: int | None, file: _File) -> bool:
    """Whether every document that is not empty ends with this id."""
    last = file.offsets[1:][np.diff(file.offsets) > 0] - 1
    return token_id is not None and bool((file.reader.read(0, len(file.reader))[last] == token_id).all())


def _each(opened: Mapping[str, Sequence[_File]]) -> Iterator[tuple[str, _File]]:
    return ((name, file) for name, group in opened.items() for file in group)


def _source(path: Path, kind: str, split: str) -> SourceInfo:
    digest = hashlib.sha256(bytes.fromhex(hash_file(path))).hexdigest()
    return SourceInfo(name=path.name, kind=kind, split=split, size_bytes=path.stat().st_size, digest=digest)
