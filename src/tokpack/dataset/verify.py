"""Proving that a dataset is whole: every problem is found and listed, none stops the search.

Raw shards (``bin`` in the natural dtype) are proved by the split's logical digest, whose blocks are hashed in
parallel even within one large file; every other file by its SHA-256. So one pass over the bytes is enough.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path

import numpy as np

from tokpack.dataset.digest import BLOCK_BYTES, StreamSummary, combine, summarize
from tokpack.dataset.findings import Finding, Report, Search
from tokpack.dataset.hashing import Span, Stretch, reading
from tokpack.dataset.manifest import MANIFEST_NAME, SUMS_NAME, FileInfo, Shard, Split
from tokpack.dataset.store import open_dataset
from tokpack.dtypes import DTYPES, token_dtype
from tokpack.errors import DamagedError, StorageError, TokpackError, UnknownPluginError
from tokpack.plugins import Plugins
from tokpack.protocols import FormatReader
from tokpack.tokenizers.probe import identify

__all__ = ["Finding", "Report", "verify_dataset"]

# Blocks that one thread hashes in a row, so that handing out work costs nothing to speak of.
_BLOCKS_IN_A_ROW = 4


def verify_dataset(
    path: str | Path,
    *,
    quick: bool = False,
    expect: str | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    plugins: Plugins | None = None,
) -> Report:
    """Check a dataset against its manifest.

    ``quick`` looks at names, sizes and counts and reads no token. ``expect`` pins the root digest: without
    it, a dataset that was forged as a whole, manifest included, passes. ``progress(done, total)`` counts
    bytes.

    Raises:
        DamagedError: the manifest itself is damaged, so nothing else can be judged.
        IncompleteError, StorageError: there is no complete dataset.
    """
    dataset = open_dataset(path, plugins=plugins)
    search = Search(dataset)
    if expect is not None and expect.lower() != dataset.manifest.root_digest:
        search.add(
            MANIFEST_NAME,
            f"root digest is {dataset.manifest.root_digest}, expected {expect}: this is another dataset",
            "mismatch",
        )
    _check_counts(search)
    _check_names(search)
    _check_sizes(search)
    if not quick:
        spans = _check_content(search, threads or os.cpu_count() or 1, progress or (lambda done, total: None))
        _check_shards(search, spans)
        if not search.findings:  # what a damaged tokenizer answers says nothing more
            _check_tokenizer(search)
    return search.report()


def _check_counts(search: Search) -> None:
    """Numbers within the manifest that must agree with each other."""
    manifest = search.dataset.manifest
    for split in manifest.splits.values():
        for shard in split.shards:
            if shard.max_id is not None and shard.max_id >= manifest.tokenizer.vocab_size:
                search.add(
                    shard.file.name,
                    f"id {shard.max_id:,} is not below the vocabulary size {manifest.tokenizer.vocab_size:,}",
                )
    if not manifest.ledger.balanced:
        search.add(MANIFEST_NAME, "the ledger does not add up: read is not encoded + empty + skipped")


def _check_names(search: Search) -> None:
    """The files that are there, against the files that must be."""
    root = search.dataset.path
    expected = {MANIFEST_NAME, SUMS_NAME, *search.dataset.manifest.paths()}
    found = set()
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                if relative != "tokenizer":
                    search.add(relative, "a folder that is not part of the dataset")
            elif not stat.S_ISREG(mode):
                search.add(relative, "not a regular file; datasets hold no links or devices")
            else:
                found.add(relative)
    for relative in sorted(expected - found):
        if not search.bad(relative):
            search.add(relative, "missing")
    for relative in sorted(found - expected):
        search.add(relative, "not part of the dataset")


def _check_sizes(search: Search) -> None:
    root = search.dataset.path
    for relative, info in search.dataset.manifest.paths().items():
        path = root / relative
        if not search.bad(relative) and path.stat().st_size != info.size_bytes:
            search.add(relative, f"has {path.stat().st_size:,} bytes, must have {info.size_bytes:,}")
    sums = root / SUMS_NAME
    if not search.bad(SUMS_NAME):
        try:
            content = sums.read_bytes()
        except OSError as error:
            search.add(SUMS_NAME, f"cannot be read: {error.strerror}", "unreadable")
        else:
            if content != search.dataset.manifest.checksums().encode():
                search.add(SUMS_NAME, "does not agree with the manifest")


def _check_content(search: Search, threads: int, progress: Callable[[int, int], None]) -> dict[str, Span]:
    """Hash everything once, in parallel; return the span of the ids of each file that is nothing but ids."""
    manifest = search.dataset.manifest
    files = manifest.paths()
    raw = {
        split.shards[0].file.name: name for name, split in manifest.splits.items() if _is_raw(search, split)
    }
    stretches = list(_stretches(search, raw))
    total, done = sum(map(len, stretches)), 0
    blocks: dict[str, list[bytes]] = {name: [] for name in raw.values()}
    spans: dict[str, Span] = {}
    with reading(search.dataset.path, stretches, threads) as results:
        lengths = {name: _lengths(search, name) for name in sorted(blocks)}
        for stretch, result in results:
            done += len(stretch)
            progress(done, total)
            if isinstance(result, OSError):
                search.add(stretch.relative, f"cannot be read: {result.strerror}", "unreadable")
                continue
            if stretch.ids is not None:
                spans.setdefault(stretch.relative, Span()).add(result.span.low, result.span.high)
            if (split := raw.get(stretch.relative)) is not None:
                blocks[split] += result.blocks
            elif result.blocks[0].hex() != files[stretch.relative].sha256:
                search.add(stretch.relative, "content has changed: SHA-256 differs")
    search.bytes_hashed = total
    for name, summary in lengths.items():
        if summary is not None:
            _judge_raw(search, name, blocks[name], summary)
    return spans


def _is_raw(search: Search, split: Split) -> bool:
    """Whether the split's logical stream of tokens is the very bytes of one intact file."""
    manifest = search.dataset.manifest
    natural = token_dtype(manifest.tokenizer.vocab_size) == DTYPES[manifest.dtype]
    return (
        search.dataset.format.appendable
        and natural
        and len(split.shards) == 1
        and not manifest.columns
        and not any(search.bad(info.name) for info in split.shards[0].files)
    )


def _stretches(search: Search, raw: Container[str]) -> Iterator[Stretch]:
    """Every byte of the dataset once: raw files in blocks, shared out to all threads; others whole."""
    manifest = search.dataset.manifest
    dtype = DTYPES[manifest.dtype] if search.dataset.format.appendable else None
    shards = {shard.file.name for split in manifest.splits.values() for shard in split.shards}
    for relative, info in sorted(manifest.paths().items(), key=lambda item: item[0] in raw):
        if search.bad(relative):
            continue
        ids, size = dtype if relative in shards else None, info.size_bytes
        if relative not in raw:
            yield Stretch(relative, 0, size, max(size, 1), ids)
            continue
        step = _BLOCKS_IN_A_ROW * BLOCK_BYTES
        for start in range(0, size, step):
            yield Stretch(relative, start, min(start + step, size), BLOCK_BYTES, ids)


def _lengths(search: Search, name: str) -> StreamSummary | None:
    """Summarize the lengths of a split's documents; None where they cannot be had."""
    try:
        return summarize(np.diff(search.dataset[name].offsets).astype("<i8", copy=False))
    except TokpackError:
        return None  # the boundaries have a finding of their own


def _judge_raw(search: Search, name: str, blocks: list[bytes], lengths: StreamSummary) -> None:
    split = search.dataset.manifest.splits[name]
    info: FileInfo = split.shards[0].file
    streams = {"tokens": StreamSummary(info.size_bytes, blocks), "lengths": lengths}
    if not search.bad(info.name) and combine(streams) != split.digest:
        search.add(info.name, "content has changed: the digest of its tokens and documents differs")


def _check_shards(search: Search, spans: Mapping[str, Span]) -> None:
    """Document boundaries and ids, as readers will see them."""
    for name in search.dataset:
        store = search.dataset[name]
        for index, shard in enumerate(search.dataset.manifest.splits[name].shards):
            if any(search.bad(info.name) for info in shard.files):
                continue
            try:
                if (np.diff(store.shard_offsets(index)) < 0).any():
                    search.add(shard.file.name, "document boundaries go backwards")
                reader = store.reader(index)  # which counts the tokens
                store.shard_columns(index)  # which counts their values
                span = spans.get(shard.file.name) or _span(reader)
            except DamagedError as error:
                search.add(shard.file.name, str(error))
            except (StorageError, OSError) as error:
                search.add(shard.file.name, f"cannot be read: {error}", "unreadable")
            else:
                _judge_span(search, shard, span)


def _span(reader: FormatReader) -> Span:
    span = Span()
    for start in range(0, len(reader), 1 << 22):
        span.add_ids(reader.read(start, min(start + (1 << 22), len(reader))))
    return span


def _judge_span(search: Search, shard: Shard, span: Span) -> None:
    if (span.low, span.high) != (shard.min_id, shard.max_id):
        search.add(
            shard.file.name,
            f"ids span {span.low} to {span.high}, the manifest says {shard.min_id} to {shard.max_id}",
        )


def _check_tokenizer(search: Search) -> None:
    """The stored tokenizer must still give the ids that it gave."""
    info = search.dataset.manifest.tokenizer
    try:
        tokenizer = search.dataset.open_tokenizer()
    except UnknownPluginError as error:
        search.notes.append(f"tokenizer not checked: {error}")
        return
    except TokpackError as error:
        search.add("tokenizer", f"cannot be opened: {error}")
        return
    identity = identify(tokenizer)
    if identity.content != info.content:
        search.add("tokenizer", "its content is not what encoded this dataset", "mismatch")
    elif identity.probe != info.probe:
        search.add(
            "tokenizer",
            f"{identity.engine} gives other ids than {info.engine}, which encoded this dataset",
            "mismatch",
        )
