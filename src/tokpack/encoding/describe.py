"""What stands beside the shards: provenance, quarantine, the tokenizer's own files, and the manifest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tokpack import __version__
from tokpack.dataset.manifest import (
    MANIFEST_NAME,
    SUMS_NAME,
    FileInfo,
    FormatInfo,
    Ledger,
    Manifest,
    SourceInfo,
    Split,
    TokenizerInfo,
    decode_manifest,
)
from tokpack.dataset.publish import hash_file, publish, sync_directory, write_file
from tokpack.encoding.job import Job
from tokpack.encoding.plan import Plan
from tokpack.encoding.unit import QUARANTINE, UnitRecord
from tokpack.encoding.workspace import Workspace
from tokpack.errors import PluginError
from tokpack.protocols import Tokenizer
from tokpack.references import Reference
from tokpack.tokenizers.probe import TokenizerIdentity

__all__ = ["UNITS_NAME", "describe", "describe_tokenizer", "write_manifest"]

UNITS_NAME = "units.jsonl"


def describe(
    job: Job, workspace: Workspace, records: Sequence[UnitRecord], splits: Mapping[str, Split]
) -> Manifest:
    """Write everything beside the shards, the manifest last. ``records`` has one entry per unit, in order."""
    folder = workspace.dataset
    extra = [_write_units(folder, job.plan, records)]
    if sum(record.problems for record in records):
        extra.append(_write_quarantine(workspace, records))
    manifest = Manifest(
        created_by=f"tokpack {__version__}",
        dtype=job.dtype.name,
        columns=list(job.options.columns),
        format=FormatInfo(name=job.format.name, options=dict(sorted(job.options.format_options.items()))),
        tokenizer=describe_tokenizer(job.tokenizer, job.identity, job.options.tokenizer, folder),
        options=msgspec.to_builtins(job.options.recorded()),
        sources=_source_infos(job.plan, records),
        ledger=sum((record.ledger for record in records), Ledger()),
        splits=dict(splits),
        extra=extra,
    )
    write_manifest(folder, manifest)
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``SHA256SUMS`` and, last of all files, the manifest."""
    content = manifest.to_bytes()
    decode_manifest(content, folder / MANIFEST_NAME)  # what cannot be read must not be written
    write_file(folder / SUMS_NAME, manifest.checksums().encode())
    write_file(folder / MANIFEST_NAME, content)


def _write_units(folder: Path, plan: Plan, records: Sequence[UnitRecord]) -> FileInfo:
    """Provenance: which slice of which input each run of documents came from; one line per unit."""
    with publish(folder / UNITS_NAME) as file:
        for unit, record in zip(plan.units, records, strict=True):
            line = {
                "parts": [[part.source, part.slice.start, part.slice.stop] for part in unit.parts],
                "splits": {name: [piece.documents, piece.tokens] for name, piece in record.pieces.items()},
            }
            file.write(msgspec.json.encode(line) + b"\n")
    return file.info(UNITS_NAME)


def _write_quarantine(workspace: Workspace, records: Sequence[UnitRecord]) -> FileInfo:
    with publish(workspace.dataset / QUARANTINE) as file:
        for record in records:
            if record.problems:
                file.write((workspace.units / f"{record.index:06d}" / QUARANTINE).read_bytes())
    return file.info(QUARANTINE)


def describe_tokenizer(
    tokenizer: Tokenizer, identity: TokenizerIdentity, reference: str, folder: Path
) -> TokenizerInfo:
    """Save the tokenizer below ``folder`` and describe it as the manifest does."""
    directory = folder / "tokenizer"
    directory.mkdir(exist_ok=True)
    tokenizer.save(directory)
    paths = sorted(directory.rglob("*"))
    if any(not path.is_file() for path in paths):
        raise PluginError(f"{reference} saved a folder; a tokenizer saves plain files only")
    files = []
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files.append(FileInfo(name=path.name, size_bytes=path.stat().st_size, sha256=hash_file(path)))
    sync_directory(directory)
    return TokenizerInfo(
        reference=_portable(reference),
        fingerprint=identity.fingerprint,
        content=identity.content,
        probe=identity.probe,
        engine=identity.engine,
        unicode=identity.unicode,
        vocab_size=tokenizer.vocab_size,
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        files=files,
    )


def _source_infos(plan: Plan, records: Sequence[UnitRecord]) -> list[SourceInfo]:
    digests = [hashlib.sha256() for _ in plan.inputs]
    for unit, record in zip(plan.units, records, strict=True):
        for part, digest in zip(unit.parts, record.digests, strict=True):
            digests[part.source].update(bytes.fromhex(digest))
    return [
        SourceInfo(
            name=item.name, kind=item.kind, split=item.split, size_bytes=item.size_bytes, digest=d.hexdigest()
        )
        for item, d in zip(plan.inputs, digests, strict=True)
    ]


def _portable(reference: str) -> str:
    """Keep a model's name but not the folder it lay in: where a dataset was made is not what it is."""
    parsed = Reference.parse(reference)
    if not parsed.model or not Path(parsed.model).exists():
        return reference
    return str(Reference(parsed.backend, Path(parsed.model).resolve().name))
