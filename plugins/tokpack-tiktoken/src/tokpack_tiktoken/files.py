"""Ranks files, and the small JSON file that says what they leave out.

A ranks file has one token per line: its bytes in base64, a space, its id. The JSON file beside it::

    {
      "format": 1,
      "ranks": "ranks.tiktoken",
      "ranks_sha256": "…",
      "pattern": " ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+",
      "special_tokens": {"<|endoftext|>": 50256},
      "eos_token": "<|endoftext|>"
    }

``format``, ``ranks``, ``ranks_sha256``, ``bos_token``, ``eos_token`` and ``pad_token`` may be left out. In a
folder it is ``tiktoken.json``; beside ``my.tiktoken`` it is ``my.json``.
"""

from __future__ import annotations

import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tokpack.errors import DamagedError, StorageError, UsageError
from tokpack_tiktoken.definition import END_OF_TEXT, Definition

__all__ = ["load_definition", "save_definition"]

_JSON_NAME, _RANKS_NAME = "tiktoken.json", "ranks.tiktoken"
_FORMAT = 1


class _Settings(msgspec.Struct, forbid_unknown_fields=True):
    pattern: str
    special_tokens: dict[str, int]
    format: int = _FORMAT
    ranks: str | None = None
    ranks_sha256: str | None = None
    bos_token: str | None = None
    eos_token: str | None = END_OF_TEXT
    pad_token: str | None = None


def load_definition(path: Path) -> Definition:
    """Read a folder, a JSON file, or a ranks file with its JSON file beside it.

    Raises:
        UsageError: there is no JSON file, so that pattern and special tokens are not known.
        StorageError: a file cannot be read.
        DamagedError: a file is truncated or not what it must be.
    """
    settings_path = _settings_path(path)
    settings = _settings(settings_path)
    default = _RANKS_NAME if path.is_dir() else settings_path.with_suffix(".tiktoken").name
    ranks_path = settings_path.parent / (settings.ranks or default)
    if ranks_path.parent != settings_path.parent:
        raise DamagedError(f"{settings_path}: ranks is {settings.ranks!r}; it must be a file beside this one")
    definition = Definition(
        origin=str(path),
        pattern=settings.pattern,
        ranks=_ranks(ranks_path, settings.ranks_sha256),
        special_tokens=settings.special_tokens,
        bos_token=settings.bos_token,
        eos_token=settings.eos_token,
        pad_token=settings.pad_token,
    )
    definition.check()
    return definition


def save_definition(definition: Definition, directory: Path) -> None:
    """Write ``tiktoken.json`` and ``ranks.tiktoken``; equal tokenizers give equal bytes."""
    lines = sorted(definition.ranks.items(), key=lambda item: item[1])
    ranks = b"".join([binascii.b2a_base64(token, newline=False) + b" %d\n" % rank for token, rank in lines])
    settings: Mapping[str, object] = {
        "format": _FORMAT,
        "ranks": _RANKS_NAME,
        "ranks_sha256": hashlib.sha256(ranks).hexdigest(),
        "pattern": definition.pattern,
        "special_tokens": dict(sorted(definition.special_tokens.items(), key=lambda item: item[1])),
        "bos_token": definition.bos_token,
        "eos_token": definition.eos_token,
        "pad_token": definition.pad_token,
    }
    (directory / _RANKS_NAME).write_bytes(ranks)
    text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    (directory / _JSON_NAME).write_bytes(text.encode())


def _settings_path(path: Path) -> Path:
    if path.is_dir():
        found = path / _JSON_NAME
    else:
        found = path if path.suffix == ".json" else path.with_suffix(".json")
        if not path.exists():
            raise StorageError(
                f"{path}: no such file; give a folder, a ranks file, or the name of an encoding"
            )
    if not found.is_file():
        raise UsageError(
            f"{path}: a ranks file does not say how text is split; write "
            f'{{"pattern": "…", "special_tokens": {{"<|endoftext|>": 50256}}}} into {found}'
        )
    return found


def _settings(path: Path) -> _Settings:
    try:
        settings = msgspec.json.decode(_read(path), type=_Settings)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedError(
            f"{path}: {error}; it needs pattern and special_tokens, and may have ranks, ranks_sha256, "
            "bos_token, eos_token and pad_token"
        ) from error
    if settings.format != _FORMAT:
        raise UsageError(f"{path}: format {settings.format} is not known; upgrade tokpack-tiktoken")
    for token in (settings.bos_token, settings.pad_token):
        if token is not None and token not in settings.special_tokens:
            raise DamagedError(f"{path}: {token!r} is not among its special_tokens; add it there")
    return settings


def _ranks(path: Path, sha256: str | None) -> dict[bytes, int]:
    content = _read(path)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedError(f"{path}: its SHA-256 is not the one beside it; fetch the file again")
    if not content.endswith(b"\n"):
        raise DamagedError(f"{path}: it does not end with a line end, so it is truncated; fetch it again")
    lines = content.split(b"\n")[:-1]
    try:
        tokens, ids = zip(*map(bytes.split, lines), strict=True)
        ranks = dict(zip(map(_decode, tokens), map(int, ids), strict=True))
    except ValueError as error:
        raise DamagedError(_damaged_line(path, lines)) from error
    if len(ranks) < len(lines):
        raise DamagedError(f"{path}: a token is there twice; fetch the file again")
    return ranks


def _decode(token: bytes) -> bytes:
    return binascii.a2b_base64(token, strict_mode=True)


def _damaged_line(path: Path, lines: Sequence[bytes]) -> str:
    """Say which line is wrong, of lines of which one is."""
    at = next(at for at, line in enumerate(lines) if not _is_right(line))
    return f"{path}: line {at + 1:,} is not a token in base64 and its id: {lines[at][:60]!r}; fetch it again"


def _is_right(line: bytes) -> bool:
    try:
        token, rank = line.split()
        _decode(token), int(rank)
    except ValueError:
        return False
    return True


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error
