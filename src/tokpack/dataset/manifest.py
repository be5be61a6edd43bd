"""``manifest.json``: what a dataset holds, bound by digests. Normative text: docs/reference/manifest.md.

The file is canonical: decoding it and encoding it again must give the same bytes, so an added space, a
repeated key, an unknown field or an upper-case hex digit is refused. It names no time, host, user, absolute
path or worker count: equal inputs and options give an equal manifest, wherever and however it was made.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec

from tokpack.errors import DamagedError, IncompleteError, StorageError
from tokpack.urls import collapsed_url

__all__ = [
    "MANIFEST_NAME",
    "MANIFEST_VERSION",
    "SUMS_NAME",
    "FileInfo",
    "FormatInfo",
    "Ledger",
    "Manifest",
    "Shard",
    "SourceInfo",
    "Split",
    "TokenizerInfo",
    "decode_manifest",
    "read_manifest",
]

MANIFEST_NAME = "manifest.json"
SUMS_NAME = "SHA256SUMS"
MANIFEST_VERSION = 1
_MAX_BYTES = 256 << 20

# What every reader of JSON keeps exactly, and no sum of which leaves 64 bits unnoticed.
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Digest: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]
# No separators, no leading dot: a name can never leave the directory or hide in it.
FileName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}\Z")]
SplitName: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]{0,31}\\Z")]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """A file of the dataset: its name within its directory, size in bytes and SHA-256 of its content."""

    name: FileName
    size_bytes: Count
    sha256: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file of tokens, and what its format does not hold in files beside it.

    ``offsets`` are the document boundaries, ``columns`` the further per-token arrays by name.
    """

    file: FileInfo
    documents: Count
    tokens: Count
    min_id: Count | None  # None where the shard holds no tokens
    max_id: Count | None
    offsets: FileInfo | None = None
    columns: dict[str, FileInfo] = field(default_factory=dict)

    @property
    def files(self) -> tuple[FileInfo, ...]:
        """The shard's file or files."""
        offsets = () if self.offsets is None else (self.offsets,)
        return (self.file, *offsets, *self.columns.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Where every document read has gone: ``read = encoded + empty + sum(skipped)``."""

    read: Count = 0
    encoded: Count = 0
    empty: Count = 0
    skipped: dict[str, Count] = field(default_factory=dict)  # by reason, not encoded
    replaced: dict[str, Count] = field(default_factory=dict)  # by reason, encoded after repair
    split: Count = 0  # longer than max_length, stored as several documents
    truncated: Count = 0  # longer than max_length, stored without their end
    tokens_cut: Count = 0

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(
            read=self.read + other.read,
            encoded=self.encoded + other.encoded,
            empty=self.empty + other.empty,
            skipped=_sum(self.skipped, other.skipped),
            replaced=_sum(self.replaced, other.replaced),
            split=self.split + other.split,
            truncated=self.truncated + other.truncated,
            tokens_cut=self.tokens_cut + other.tokens_cut,
        )

    @property
    def balanced(self) -> bool:
        """Whether every document read is accounted for."""
        return self.read == self.encoded + self.empty + sum(self.skipped.values())


def _sum(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {key: left.get(key, 0) + right.get(key, 0) for key in sorted({*left, *right})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The shards of one split, in order, and what they hold together."""

    documents: Count
    tokens: Count
    text_bytes: Count  # UTF-8 bytes of the encoded documents: tokens per byte, bits per byte
    digest: Digest  # logical digest, see tokpack.dataset.digest
    shards: list[Shard]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """One input. ``digest`` covers its bytes: SHA-256 over the SHA-256 of each slice that was read."""

    name: str  # relative to the inputs' common folder
    kind: str  # the source plugin that read it
    split: SplitName
    size_bytes: Count
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerInfo:
    """The tokenizer that wrote the tokens; ``files`` lie in ``tokenizer/`` and re-open it offline."""

    reference: str
    fingerprint: Digest
    content: Digest
    probe: str  # ids of the frozen probe set: its version and their SHA-256
    engine: str
    unicode: str
    vocab_size: Annotated[int, msgspec.Meta(ge=1)]
    bos_id: Count | None
    eos_id: Count | None
    pad_id: Count | None
    files: list[FileInfo]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatInfo:
    """The storage format and the options it was written with."""

    name: str
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that describes a dataset."""

    version: int = MANIFEST_VERSION
    created_by: str
    dtype: Annotated[str, msgspec.Meta(pattern="^uint(16|32)\\Z")]  # little-endian on disk, always
    columns: list[str] = field(default_factory=list)
    format: FormatInfo
    tokenizer: TokenizerInfo
    options: dict[str, Any]  # tokpack.encoding.options.Recorded
    sources: list[SourceInfo]
    ledger: Ledger
    splits: dict[SplitName, Split]
    extra: list[FileInfo] = field(default_factory=list)  # units.jsonl, quarantine.jsonl

    def to_bytes(self) -> bytes:
        """Return the canonical JSON: sorted keys, two spaces, one newline at the end."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=2) + b"\n"

    @property
    def root_digest(self) -> str:
        """SHA-256 (hex) of the canonical bytes: pins the whole dataset."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def paths(self) -> dict[str, FileInfo]:
        """Return every file of the dataset but manifest and sums, by path relative to the dataset."""
        found = {f"tokenizer/{info.name}": info for info in self.tokenizer.files}
        found |= {info.name: info for info in self.extra}
        for split in self.splits.values():
            found |= {info.name: info for shard in split.shards for info in shard.files}
        return found

    def checksums(self) -> str:
        """Return the content of ``SHA256SUMS``, for the ordinary ``sha256sum --check``."""
        lines = {path: info.sha256 for path, info in self.paths().items()}
        lines[MANIFEST_NAME] = self.root_digest
        return "".join(f"{digest}  {path}\n" for path, digest in sorted(lines.items()))


def read_manifest(directory: Path) -> Manifest:
    """Read and check the manifest of ``directory``.

    Raises:
        IncompleteError: the dataset was begun and never finished.
        StorageError: there is no dataset, or it cannot be read.
        DamagedError: the manifest is not canonical, or of a version this tokpack does not know.
    """
    if (url := collapsed_url(directory)) is not None:
        raise StorageError(f"{url} is not on this machine; bring it here with: tokpack copy {url} FOLDER")
    path = directory / MANIFEST_NAME
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, a link may lead anywhere
            raise DamagedError(f"{path} is not a regular file; restore it from a copy or encode again")
        if status.st_size > _MAX_BYTES:
            raise DamagedError(f"{path} is larger than {_MAX_BYTES >> 20} MiB; it is no manifest of tokpack")
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(directory) from None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    return decode_manifest(content, path)


def decode_manifest(content: bytes, path: Path) -> Manifest:
    """Decode canonical bytes; ``path`` is for messages. Raises DamagedError."""
    try:
        version = msgspec.json.decode(content, type=_Version).version
        if version != MANIFEST_VERSION:
            raise DamagedError(
                f"{path} has format version {version}, this tokpack reads {MANIFEST_VERSION}; upgrade tokpack"
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged: {error}; restore it from a copy or encode again") from error
    if manifest.to_bytes() != content:
        raise DamagedError(f"{path} is not canonical: it was edited or damaged; restore it or encode again")
    return manifest


@dataclass(frozen=True, slots=True)
class _Version:
    version: int


def _missing(directory: Path) -> StorageError | IncompleteError:
    partial = directory.with_name(directory.name + ".partial")
    if partial.is_dir() and not directory.exists():
        return IncompleteError(
            f"{directory} is not complete: {partial.name} holds unfinished work; "
            "run the same `tokpack encode` again to continue it"
        )
    if not directory.exists():
        return StorageError(f"{directory} does not exist; `tokpack encode` makes a dataset")
    return StorageError(f"{directory} holds no {MANIFEST_NAME}; it is not a dataset of tokpack")
