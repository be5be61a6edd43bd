"""One unit of work: source → text → tokens → boundaries → piece. Runs in a worker; a small record returns."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tokpack.batches import TextBatch, TokenBatch
from tokpack.chat.mask import encode_trained
from tokpack.chat.render import ChatRenderer
from tokpack.dataset.hashing import hash_range
from tokpack.dataset.manifest import Ledger
from tokpack.dtypes import narrow
from tokpack.encoding.lengths import limit_length
from tokpack.encoding.options import EncodeOptions
from tokpack.encoding.pieces import PieceInfo, PieceWriter
from tokpack.encoding.plan import Unit
from tokpack.errors import DamagedError, DocumentError, SpecialTokenError, StorageError
from tokpack.protocols import Problem, Slice, Source, SourceBatch, Tokenizer
from tokpack.sources.inputs import VALIDATION
from tokpack.tokenizers.boundaries import with_boundaries
from tokpack.tokenizers.rows import fill_batch
from tokpack.urls import open_input

__all__ = [
    "QUARANTINE",
    "UnitRecord",
    "UnitWork",
    "encode_documents",
    "held_out_documents",
    "quarantine_is_intact",
    "slice_digest",
]

QUARANTINE = "quarantine.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRecord:
    """What a finished unit reports; one line of the journal."""

    index: int
    pieces: dict[str, PieceInfo]
    ledger: Ledger
    digests: list[str]  # SHA-256 of the input bytes of each part
    problems: int = 0
    quarantine: int = 0  # CRC-32 of the report of problems


@dataclass(frozen=True, slots=True)
class UnitWork:
    """All that a worker needs; calling it encodes one unit into its own folder below ``folder``."""

    folder: Path
    tokenizer: Tokenizer
    sources: Mapping[str, Source]
    names: tuple[str, ...]
    options: EncodeOptions
    dtype: np.dtype[Any]
    bos_id: int | None
    eos_id: int | None
    template: tuple[Sequence[int], Sequence[int]] = ((), ())  # the tokenizer's own, inside of BOS and EOS
    renderer: ChatRenderer | None = None

    @property
    def room(self) -> int | None:
        """Tokens that a document may have beside its boundaries; None: any number."""
        if self.options.max_length is None:
            return None
        added = (self.bos_id is not None) + (self.eos_id is not None) + sum(map(len, self.template))
        return self.options.max_length - added

    def __call__(self, unit: Unit) -> UnitRecord:
        """Encode ``unit`` and publish its folder by one rename.

        Raises:
            DocumentError: a document is broken and the policy is ``fail``.
            StorageError: reading or writing failed.
        """
        final = self.folder / f"{unit.index:06d}"
        temporary = final.with_suffix(".tmp")
        for stale in (temporary, final):
            shutil.rmtree(stale, ignore_errors=True)
        temporary.mkdir(parents=True)
        record = self._encode(unit, temporary)
        temporary.rename(final)
        return record

    def _encode(self, unit: Unit, folder: Path) -> UnitRecord:
        splits = [unit.split] if self._held_out(unit) is None else [unit.split, VALIDATION]
        writers = {split: PieceWriter(folder, split, self.options.columns) for split in splits}
        ledger, problems, checksum, digests = Ledger(), 0, 0, []
        with ExitStack() as stack:
            quarantine = stack.enter_context((folder / QUARANTINE).open("wb"))
            for writer in writers.values():
                stack.callback(writer.close)
            for part in unit.parts:
                digests.append(slice_digest(part.slice))
                for batch in self.sources[part.kind].read(part.slice):
                    encoded = encode_documents(batch, part.slice.path, self)
                    ledger += encoded.ledger
                    self._write(encoded, unit, writers)
                    report = self._report(encoded.problems, part.source)
                    quarantine.write(report)
                    checksum = zlib.crc32(report, checksum)
                    problems += len(encoded.problems)
        pieces = {split: writer.close() for split, writer in writers.items()}
        return UnitRecord(
            index=unit.index,
            pieces=pieces,
            ledger=ledger,
            digests=digests,
            problems=problems,
            quarantine=checksum,
        )

    def _held_out(self, unit: Unit) -> float | None:
        fraction = self.options.val_fraction
        return fraction if fraction and unit.split == "train" else None

    def _write(self, encoded: EncodedBatch, unit: Unit, writers: Mapping[str, PieceWriter]) -> None:
        fraction = self._held_out(unit)
        if fraction is None:
            writers[unit.split].write(encoded.tokens, encoded.texts.nbytes)
            return
        held_out = held_out_documents(encoded.texts, fraction)
        sizes = encoded.texts.lengths
        stored = np.repeat(held_out, encoded.stored)
        for split, chosen, kept in (
            (unit.split, ~held_out, ~stored),
            (VALIDATION, held_out, stored),
        ):
            writers[split].write(encoded.tokens.select(kept), int(sizes[chosen].sum()))

    def _report(self, problems: tuple[Problem, ...], source: int) -> bytes:
        entries = (problem._asdict() | {"path": self.names[source]} for problem in problems)
        return b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)


def quarantine_is_intact(folder: Path, record: UnitRecord) -> bool:
    """Whether the report of a unit's problems is on disk just as it was written."""
    path = folder / QUARANTINE
    return path.is_file() and zlib.crc32(path.read_bytes()) == record.quarantine


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Documents of one batch after all policies.

    ``positions`` (texts,) say where each text began in its input; ``stored[i]`` stored documents came from
    text ``i``.
    """

    texts: TextBatch
    positions: NDArray[np.int64]
    tokens: TokenBatch
    stored: NDArray[np.int64]
    ledger: Ledger
    problems: tuple[Problem, ...]


def encode_documents(batch: SourceBatch, path: str, work: UnitWork) -> EncodedBatch:
    """Tokenize one batch under the options of ``work``: the one road from text to stored documents.

    Raises:
        DocumentError: a document is broken and the policy is ``fail``.
        DamagedError: the tokenizer returned ids outside of its own vocabulary.
    """
    options = work.options
    if work.renderer is not None:
        batch = work.renderer.render(batch, path)
    problems = list(batch.problems)
    read = len(batch.texts) + sum(problem.action == "skipped" for problem in problems)
    texts, positions = batch.texts, batch.positions

    empty = texts.lengths == 0 if not options.keep_empty else np.zeros(len(texts), np.bool_)
    problems += [Problem("empty", path, at, "no text", "skipped") for at in positions[empty].tolist()]
    texts, positions = texts.select(~empty), positions[~empty]

    texts, positions, tokens = _tokenize(texts, positions, path, work, problems)
    if len(tokens.tokens) and (largest := int(tokens.tokens.max())) >= work.tokenizer.vocab_size:
        raise DamagedError(
            f"the tokenizer returned id {largest:,}, its vocabulary has {work.tokenizer.vocab_size:,} ids; "
            f"report this to whoever provides {options.tokenizer}"
        )
    limited = limit_length(tokens, work.room, options.too_long, side=options.truncation_side)
    if options.too_long == "skip":
        detail = f"more than {options.max_length} tokens"
        late = positions[limited.too_long].tolist()
        problems += [Problem("too-long", path, at, detail, "skipped") for at in late]
        texts, positions = texts.select(~limited.too_long), positions[~limited.too_long]
    stored = with_boundaries(limited.batch, bos_id=work.bos_id, eos_id=work.eos_id, template=work.template)
    if options.padding != "none":
        stored = fill_batch(stored, pad_id=options.pad_id, max_length=options.max_length)
    num_too_long = int(limited.too_long.sum())
    ledger = Ledger(
        read=read,
        encoded=len(texts),
        empty=int(empty.sum()),
        skipped=_reasons(p for p in problems if p.action == "skipped" and p.reason != "empty"),
        replaced=_reasons(p for p in problems if p.action == "replaced"),
        split=num_too_long if options.too_long == "split" else 0,
        truncated=num_too_long if options.too_long == "truncate" else 0,
        tokens_cut=limited.tokens_cut,
    )
    narrowed = replace(stored, tokens=narrow(stored.tokens, work.dtype))
    return EncodedBatch(texts, positions, narrowed, limited.stored, ledger, tuple(problems))


def _tokenize(
    texts: TextBatch,
    positions: NDArray[np.int64],
    path: str,
    work: UnitWork,
    problems: list[Problem],
) -> tuple[TextBatch, NDArray[np.int64], TokenBatch]:
    """Tokenize; documents that the tokenizer refuses are reported and left out one by one."""
    while True:
        try:
            if work.renderer is not None:
                return texts, positions, encode_trained(work.tokenizer, texts, special=work.renderer.special)
            return texts, positions, work.tokenizer.encode_batch(texts, special=work.options.special)
        except SpecialTokenError as error:
            position = int(positions[error.document])
            if work.options.source.on_error == "fail":
                raise DocumentError(
                    f"{path}, document at {position:,}: {error}; use --special text to keep it as text, "
                    "or --on-error skip to leave such documents out"
                ) from error
            problems.append(Problem("special-token", path, position, str(error), "skipped"))
            keep = np.arange(len(texts)) != error.document
            texts, positions = texts.select(keep), positions[keep]


def held_out_documents(texts: TextBatch, fraction: float) -> NDArray[np.bool_]:
    """Choose documents for validation by the hash of their content: duplicates always go together."""
    view, edges = texts.data.data, texts.offsets.tolist()
    limit = int(fraction * 2**64)
    return np.fromiter(
        (
            int.from_bytes(hashlib.blake2b(view[a:b], digest_size=8).digest(), "little") < limit
            for a, b in itertools.pairwise(edges)
        ),
        np.bool_,
        len(texts),
    )


def slice_digest(part: Slice) -> str:
    """SHA-256 of the input bytes accounted to a slice."""
    size = part.byte_stop - part.byte_start
    try:
        with open_input(part.path) as file:
            digest, read = hash_range(file, part.byte_start, part.byte_stop)
    except OSError as error:
        raise StorageError(f"cannot read {part.path}: {error.strerror or error}") from error
    if read < size:
        raise StorageError(f"{part.path} became shorter while it was read; run again when it is complete")
    return digest


def _reasons(problems: Iterable[Problem]) -> dict[str, int]:
    return dict(sorted(Counter(problem.reason for problem in problems).items()))
