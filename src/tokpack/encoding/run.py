"""The whole of encoding: prepare what is needed, run the units, assemble, commit."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tokpack.dataset.manifest import Manifest
from tokpack.dataset.publish import hash_file
from tokpack.dataset.shards import ShardLayout
from tokpack.encoding.assemble import Assembler
from tokpack.encoding.describe import describe
from tokpack.encoding.job import Job, prepare
from tokpack.encoding.journal import Journal
from tokpack.encoding.options import EncodeOptions
from tokpack.encoding.pieces import is_intact
from tokpack.encoding.texts import DocumentTexts
from tokpack.encoding.unit import UnitRecord, quarantine_is_intact, slice_digest
from tokpack.encoding.workspace import Workspace, open_workspace
from tokpack.errors import MismatchError, UsageError
from tokpack.plugins import Plugins, discover
from tokpack.protocols import Executor
from tokpack.specs import load

__all__ = ["STDIN", "Encoded", "Listener", "Progress", "encode_job"]

#: The input that stands for standard input.
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an encode is; ``resumed_bytes`` were done by an earlier run."""

    total_bytes: int
    done_bytes: int = 0
    resumed_bytes: int = 0
    documents: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Encoded:
    """A finished encode."""

    path: Path
    manifest: Manifest
    seconds: float
    progress: Progress


@dataclass(frozen=True, slots=True)
class Listener:
    """What the caller wants to hear while work goes on."""

    on_plan: Callable[[Job, bool], None] = field(default=lambda job, resumes: None)
    on_progress: Callable[[Progress], None] = field(default=lambda progress: None)


def encode_job(
    inputs: Sequence[str],
    options: EncodeOptions,
    *,
    output: Path,
    validation: Sequence[str] = (),
    splits: Mapping[str, Sequence[str]] | None = None,
    executor: str | None = None,
    workers: int = 1,
    overwrite: bool = False,
    listener: Listener | None = None,
    stdin: BinaryIO | None = None,
    plugins: Plugins | None = None,
) -> Encoded:
    """Encode ``inputs`` into the dataset ``output``; an interrupted run is continued.

    ``"-"`` among the inputs is standard input. ``listener`` hears of the plan, then of each unit.

    Raises:
        TokpackError: whatever went wrong; nothing incomplete stands under ``output``.
    """
    plugins = plugins or discover()
    listener = listener or Listener()
    begun = time.monotonic()
    name = executor or ("processes" if workers > 1 else "serial")
    open_executor = load(plugins.executors[name].open)
    with open_workspace(output, overwrite=overwrite) as workspace:
        paths = _spool_stdin(inputs, workspace, options, stdin or sys.stdin.buffer, plugins)
        job = prepare(paths, options, validation=validation, splits=splits, plugins=plugins)
        resumes = workspace.has_work
        workspace.bind(job.record())
        listener.on_plan(job, resumes)
        manifest, progress = _run(job, workspace, open_executor(workers), listener)
        workspace.commit(overwrite=overwrite)
    return Encoded(workspace.output, manifest, time.monotonic() - begun, progress)


def _spool_stdin(
    inputs: Sequence[str], workspace: Workspace, options: EncodeOptions, stream: BinaryIO, plugins: Plugins
) -> list[str]:
    paths = []
    for item in inputs:
        if item != STDIN:
            paths.append(item)
            continue
        kind = options.input_format
        spooled = workspace.spool(stream, plugins.sources[kind].suffixes[0] if kind else None)
        if spooled is None:
            raise UsageError("standard input is empty; name files or a folder: tokpack encode ./data")
        paths.append(str(spooled))
    return paths


def _run(job: Job, workspace: Workspace, pool: Executor, listener: Listener) -> tuple[Manifest, Progress]:
    journal = Journal(workspace.journal)
    _check_shards(workspace, journal)
    _check_sources(job, journal)
    assembler = Assembler(_layout(job, workspace), workspace.units, journal)
    try:
        progress = _encode_units(job, workspace, pool, journal, assembler, listener)
        splits = assembler.finish()
        if not any(split.tokens for split in splits.values()):
            raise UsageError("no document was left to encode: all were empty or skipped; see --on-error")
        records = [journal.units[unit.index] for unit in job.plan.units]
        return describe(job, workspace, records, splits), progress
    except BaseException as error:
        assembler.abandon(error)
        raise
    finally:
        pool.close()
        journal.close()


def _layout(job: Job, workspace: Workspace) -> ShardLayout:
    options, spec = job.options, job.format
    shard_bytes = options.shard_bytes or (None if options.num_shards else spec.default_shard_bytes)
    return ShardLayout(
        folder=workspace.dataset,
        format=spec,
        options=options.format_options,
        dtype=job.dtype,
        vocab_size=job.tokenizer.vocab_size,
        columns=options.columns,
        shard_bytes=shard_bytes,
        numbered=shard_bytes is not None or options.num_shards is not None,
        texts=DocumentTexts(job.tokenizer, job.bos_id, job.eos_id) if options.with_text else None,
    )


def _encode_units(
    job: Job,
    workspace: Workspace,
    pool: Executor,
    journal: Journal,
    assembler: Assembler,
    listener: Listener,
) -> Progress:
    """Run the units that are left; hand all of them to the assembler strictly in order."""
    units = job.plan.units
    finished = {record.index for record in journal.units.values() if _usable(workspace, journal, record)}
    waiting = [unit for unit in units if unit.index not in finished]
    resumed = sum(unit.size_bytes for unit in units if unit.index in finished)
    progress = Progress(sum(unit.size_bytes for unit in units), resumed_bytes=resumed)
    assembled = 0

    for index in sorted(finished):
        progress = _advance(progress, units[index].size_bytes, journal.units[index])
    listener.on_progress(progress)
    results = pool.run(job.work(workspace.units), waiting)
    while assembled < len(units):
        if assembled in finished:
            assembler.add(units[assembled], journal.units[assembled])
            assembled += 1
            continue
        record = next(results)
        journal.add_unit(record)
        finished.add(record.index)
        progress = _advance(progress, units[record.index].size_bytes, record)
        listener.on_progress(progress)
    return progress


def _advance(progress: Progress, size_bytes: int, record: UnitRecord) -> Progress:
    return Progress(
        progress.total_bytes,
        progress.done_bytes + size_bytes,
        progress.resumed_bytes,
        progress.documents + sum(piece.documents for piece in record.pieces.values()),
        progress.tokens + sum(piece.tokens for piece in record.pieces.values()),
    )


def _usable(workspace: Workspace, journal: Journal, record: UnitRecord) -> bool:
    """Whether a finished unit need not be done again: each piece is in published shards, or on disk whole."""
    published = {shard.split: shard.next_unit for shard in journal.shards}
    folder = workspace.units / f"{record.index:06d}"
    if record.problems and not quarantine_is_intact(folder, record):
        return False
    return all(
        record.index < published.get(split, 0) or is_intact(folder, split, piece)
        for split, piece in record.pieces.items()
    )


def _check_shards(workspace: Workspace, journal: Journal) -> None:
    """Begin anew if a published shard is not what the journal says; remove what belongs to no shard."""
    published = {info.name: info for record in journal.shards for info in record.shard.files}
    paths = {path.name: path for path in workspace.dataset.iterdir()}
    for name, info in published.items():
        if name not in paths or hash_file(paths[name]) != info.sha256:
            journal.restart()
            published = {}
            break
    for name, path in paths.items():
        if path.is_dir():
            shutil.rmtree(path)
        elif name not in published:
            path.unlink()


def _check_sources(job: Job, journal: Journal) -> None:
    """Refuse to continue when an input that was already read has changed."""
    for index, record in journal.units.items():
        for part, digest in zip(job.plan.units[index].parts, record.digests, strict=True):
            if slice_digest(part.slice) != digest:
                raise MismatchError(
                    f"{part.slice.path} has changed since the unfinished work was begun; "
                    "restore it, or add --overwrite to begin anew"
                )
