"""Proving that a dataset is whole: every problem is found and listed, none stops the search.

Raw shards (``bin`` in the natural dtype) are proved by the split's logical digest, whose blocks are hashed in
parallel even within one large file; every other file by its SHA-256. So one pass over the bytes is enough.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from tokpack.dataset.digest import BLOCK_BYTES, StreamSummary, combine, summarize
from tokpack.dataset.manifest import MANIFEST_NAME, SUMS_NAME, FileInfo, Manifest, Split
from tokpack.dataset.store import Dataset, ShardStore, open_dataset
from tokpack.dtypes import DTYPES, token_dtype
from tokpack.errors import DamagedError, StorageError, TokpackError, UnknownPluginError
from tokpack.plugins import Plugins
from tokpack.tokenizers.probe import identify

__all__ = ["Finding", "Report", "verify_dataset"]

Kind: TypeAlias = Literal["damaged", "unreadable", "mismatch"]
_EXIT_CODES: dict[Kind, int] = {"damaged": 1, "unreadable": 4, "mismatch": 5}
# Small enough to stay in a core's own cache between being read and being hashed.
_READ_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be."""

    kind: Kind
    path: str  # relative to the dataset
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found; ``notes`` name what could not be checked and why."""

    manifest: Manifest
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    bytes_hashed: int

    @property
    def exit_code(self) -> int:
        """0 if all is well, else the code of the worst finding: unreadable, damaged, mismatch."""
        kinds = {finding.kind for finding in self.findings}
        return next((_EXIT_CODES[kind] for kind in ("damaged", "unreadable", "mismatch") if kind in kinds), 0)


@dataclass(slots=True)
class _Search:
    """A verification under way."""

    dataset: Dataset
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bytes_hashed: int = 0

    def add(self, path: str, message: str, kind: Kind = "damaged") -> None:
        self.findings.append(Finding(kind, path, message))

    def bad(self, path: str) -> bool:
        return any(finding.path == path for finding in self.findings)


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
    search = _Search(dataset)
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
        _check_content(search, threads or os.cpu_count() or 1, progress or (lambda done, total: None))
        _check_boundaries(search)
        if not search.findings:  # what a damaged tokenizer answers says nothing more
            _check_tokenizer(search)
    search.findings.sort(key=lambda finding: (finding.path, finding.message))
    return Report(dataset.manifest, tuple(search.findings), tuple(search.notes), search.bytes_hashed)


def _check_counts(search: _Search) -> None:
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


def _check_names(search: _Search) -> None:
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


def _check_sizes(search: _Search) -> None:
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


@dataclass(frozen=True, slots=True)
class _Task:
    """Bytes [start, stop) of a file to hash; of a raw split, one block."""

    relative: str
    start: int
    stop: int
    split: str | None = None


def _check_content(search: _Search, threads: int, progress: Callable[[int, int], None]) -> None:
    """Hash everything once, in parallel."""
    manifest, root = search.dataset.manifest, search.dataset.path
    raw = {name for name, split in manifest.splits.items() if _is_raw(search, split)}
    covered = {shard.file.name for name in raw for shard in manifest.splits[name].shards}
    whole = {
        relative: info
        for relative, info in manifest.paths().items()
        if relative not in covered and not search.bad(relative)
    }
    tasks = [_Task(relative, 0, info.size_bytes) for relative, info in whole.items()]
    tasks += [task for name in sorted(raw) for task in _raw_tasks(name, manifest.splits[name])]
    total, done = sum(task.stop - task.start for task in tasks), 0
    blocks: dict[str, list[bytes]] = {name: [] for name in raw}
    with ExitStack() as stack:
        in_order = map if threads == 1 else stack.enter_context(ThreadPoolExecutor(threads)).map
        for task, result in zip(tasks, in_order(partial(_hash, root), tasks), strict=True):
            done += task.stop - task.start
            progress(done, total)
            if isinstance(result, OSError):
                search.add(task.relative, f"cannot be read: {result.strerror}", "unreadable")
            elif task.split is not None:
                blocks[task.split].append(result)
            elif result.hex() != whole[task.relative].sha256:
                search.add(task.relative, "content has changed: SHA-256 differs")
    search.bytes_hashed = total
    for name in sorted(raw):
        _judge_raw(search, name, blocks[name])


def _is_raw(search: _Search, split: Split) -> bool:
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


def _raw_tasks(name: str, split: Split) -> Iterator[_Task]:
    info = split.shards[0].file
    for start in range(0, info.size_bytes, BLOCK_BYTES):
        yield _Task(info.name, start, min(start + BLOCK_BYTES, info.size_bytes), name)


def _hash(root: Path, task: _Task) -> bytes | OSError:
    digest = hashlib.sha256()
    view = memoryview(bytearray(_READ_BYTES))
    try:
        with (root / task.relative).open("rb", buffering=0) as file:
            file.seek(task.start)
            left = task.stop - task.start
            while left and (size := file.readinto(view[: min(left, _READ_BYTES)])):
                digest.update(view[:size])
                left -= size
    except OSError as error:
        return error
    return digest.digest()


def _judge_raw(search: _Search, name: str, blocks: list[bytes]) -> None:
    split = search.dataset.manifest.splits[name]
    info: FileInfo = split.shards[0].file
    if search.bad(info.name):
        return
    try:
        lengths = np.diff(search.dataset[name].offsets).astype("<i8")
    except TokpackError:
        return  # the boundaries have a finding of their own
    streams = {"tokens": StreamSummary(info.size_bytes, blocks), "lengths": summarize(lengths)}
    if combine(streams) != split.digest:
        search.add(info.name, "content has changed: the digest of its tokens and documents differs")


def _check_boundaries(search: _Search) -> None:
    """Document boundaries and ids, as readers will see them."""
    for name in search.dataset:
        store = search.dataset[name]
        for index, shard in enumerate(search.dataset.manifest.splits[name].shards):
            if any(search.bad(info.name) for info in shard.files):
                continue
            try:
                _check_shard(search, store, index)
            except DamagedError as error:
                search.add(shard.file.name, str(error))
            except (StorageError, OSError) as error:
                search.add(shard.file.name, f"cannot be read: {error}", "unreadable")


def _check_shard(search: _Search, store: ShardStore, index: int) -> None:
    shard = search.dataset.manifest.splits[store.name].shards[index]
    if (np.diff(store.shard_offsets(index)) < 0).any():
        search.add(shard.file.name, "document boundaries go backwards")
    reader = store.reader(index)
    low: int | None = None
    high: int | None = None
    for start in range(0, shard.tokens, 1 << 22):
        tokens = reader.read(start, min(start + (1 << 22), shard.tokens))
        low = int(tokens.min()) if low is None else min(low, int(tokens.min()))
        high = int(tokens.max()) if high is None else max(high, int(tokens.max()))
    if (low, high) != (shard.min_id, shard.max_id):
        search.add(
            shard.file.name, f"ids span {low} to {high}, the manifest says {shard.min_id} to {shard.max_id}"
        )


def _check_tokenizer(search: _Search) -> None:
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
