"""What a process that renders and the one that asks it say to each other."""

from __future__ import annotations

from typing import IO, Any

import msgspec

__all__ = ["Answer", "Setup", "read_frame", "write_frame"]


class Setup(msgspec.Struct, frozen=True):
    """The first request."""

    template: str
    tokens: dict[str, str]
    messages_field: str
    literal: list[str]  # special tokens that a message must not spell


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one record: its text and trained spans in bytes, or why there is none."""

    text: bytes = b""
    spans: list[tuple[int, int]] = []
    refused: str | None = None  # this conversation
    spelled: str | None = None  # a special token that one of its messages spells
    fatal: str | None = None  # the template, whatever the conversation


def read_frame(stream: IO[bytes]) -> bytes:
    """Return the next frame, empty where the stream has ended."""
    return stream.read(int.from_bytes(stream.read(8), "little"))


def write_frame(stream: IO[bytes], value: Any) -> None:
    """Write one frame and send it off."""
    content = msgspec.msgpack.encode(value)
    stream.write(len(content).to_bytes(8, "little"))
    stream.write(content)
    stream.flush()
