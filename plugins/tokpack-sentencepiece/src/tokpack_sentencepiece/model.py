"""What a ``.model`` file says beyond what the library tells: its identity, and how it treats white space.

The file is a protocol buffer, ``ModelProto`` of sentencepiece_model.proto, read by the wire format alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tokpack.errors import DamagedError

__all__ = ["WITHOUT_DUMMY_PREFIX", "ModelFacts", "read_model"]

#: Appended to a model, this switches its dummy prefix off: fields that come later win.
WITHOUT_DUMMY_PREFIX = bytes([3 << 3 | 2, 2, 3 << 3, 0])

_PIECES, _TRAINER, _NORMALIZER, _DENORMALIZER = 1, 2, 3, 5
_MAX_PIECES = 1 << 24

# Fields of TrainerSpec that decide ids or bytes; the rest is the history of the training.
# model_type, treat_whitespace_as_suffix, byte_fallback; the ids and names of unk, bos, eos and pad.
_UNK_SURFACE = 44
_DECISIVE = {3, 24, 35, 40, 41, 42, 43, _UNK_SURFACE, 45, 46, 47, 48}
# Fields of NormalizerSpec.
_DUMMY_PREFIX, _EXTRA_SPACES = 3, 4


class _Field(NamedTuple):
    number: int
    value: int | memoryview
    raw: memoryview


@dataclass(slots=True)
class ModelFacts:
    """The settings of a model that tokpack needs beside the library."""

    digest: str = ""
    num_pieces: int = 0
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    unk_surface: bytes = " ⁇ ".encode()
    decisive: list[bytes] = field(default_factory=list, repr=False)


def read_model(content: bytes, origin: str) -> ModelFacts:
    """Check a model and return its facts.

    Raises:
        DamagedError: names ``origin`` and what is wrong.
    """
    facts = ModelFacts()
    digest = hashlib.sha256()
    facts.num_pieces, place = _skip_pieces(content)
    digest.update(memoryview(content)[:place])
    for item in _fields(memoryview(content)[place:], origin):
        if item.number == _PIECES:
            facts.num_pieces += 1
            digest.update(item.raw)
        elif item.number == _TRAINER:
            _read_trainer(_message(item, origin), facts, origin)
        elif item.number in (_NORMALIZER, _DENORMALIZER):
            digest.update(item.raw)
            if item.number == _NORMALIZER:
                _read_normalizer(_message(item, origin), facts, origin)
    if not 0 < facts.num_pieces < _MAX_PIECES:
        raise DamagedError(
            f"{origin} has {facts.num_pieces:,} pieces and is no SentencePiece model; fetch it again"
        )
    for raw in sorted(facts.decisive):
        digest.update(raw)
    facts.digest = digest.hexdigest()
    return facts


def _skip_pieces(content: bytes) -> tuple[int, int]:
    """Return how many short pieces a model begins with, and where they end: a quarter of a million, often."""
    count = place = 0
    while place + 2 <= len(content) and content[place] == _PIECES << 3 | 2 and content[place + 1] < 0x80:
        after = place + 2 + content[place + 1]
        if after > len(content):
            break
        count, place = count + 1, after
    return count, place


def _read_trainer(message: memoryview, facts: ModelFacts, origin: str) -> None:
    for item in _fields(message, origin):
        if item.number in _DECISIVE:
            facts.decisive.append(bytes(item.raw))
        if item.number == _UNK_SURFACE and isinstance(item.value, memoryview):
            facts.unk_surface = bytes(item.value)


def _read_normalizer(message: memoryview, facts: ModelFacts, origin: str) -> None:
    for item in _fields(message, origin):
        if item.number == _DUMMY_PREFIX:
            facts.add_dummy_prefix = bool(item.value)
        elif item.number == _EXTRA_SPACES:
            facts.remove_extra_whitespaces = bool(item.value)


def _message(item: _Field, origin: str) -> memoryview:
    if isinstance(item.value, int):
        raise DamagedError(f"{origin} is no SentencePiece model: field {item.number} has another kind")
    return item.value


def _fields(message: memoryview, origin: str) -> Iterator[_Field]:
    """Yield the fields of a message of the wire format, checking every length against what is there."""
    place, end = 0, len(message)
    while place < end:
        start = place
        tag, place = _varint(message, place, origin)
        number, kind = tag >> 3, tag & 7
        value: int | memoryview
        if kind == 0:
            value, place = _varint(message, place, origin)
        else:
            if kind == 2:
                size, place = _varint(message, place, origin)
            else:
                size = {1: 8, 5: 4}.get(kind, end + 1)
            if size > end - place:
                raise DamagedError(
                    f"{origin} is no SentencePiece model, or cut short at byte {start:,}; fetch it again"
                )
            value = message[place : place + size]
            place += size
        yield _Field(number, value, message[start:place])


def _varint(message: memoryview, place: int, origin: str) -> tuple[int, int]:
    value = shift = 0
    while shift < 70 and place < len(message):
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise DamagedError(f"{origin} is no SentencePiece model, or cut short at byte {place:,}; fetch it again")
