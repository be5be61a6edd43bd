"""Inputs as streams of bytes: files and URLs, plain, ``.gz`` and ``.zst``.

Compressed files may hold several gzip members or zstd frames, with skippable frames between them. A file
that ends too early is an error, never a silent end.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import BinaryIO, Protocol, cast

import zstandard

from tokpack.errors import DamagedError, StorageError
from tokpack.urls import is_url, open_input, storage_errors

__all__ = ["ByteStream", "file_bytes", "is_compressed", "open_stream", "read_exactly"]

_GZIP, _ZSTD = ".gz", ".zst"
_ZSTD_MAGIC = 0xFD2FB528
_ZSTD_SKIPPABLE_MAGIC = 0x184D2A50  # the last four bits are free
_ZSTD_MAX_WINDOW = 1 << 27  # what the zstd tool itself accepts without --long


class ByteStream(Protocol):
    """What the sources need of a stream; ``read`` may return less than asked for, and b"" at the end."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes."""
        ...


def is_compressed(path: str) -> bool:
    """Whether ``path`` is read through a decompressor, which its ending alone decides."""
    return path.endswith((_GZIP, _ZSTD))


def file_bytes(path: str) -> int:
    """Return the size of a file or URL as it is stored.

    Raises:
        StorageError: there is no such file, or it is a directory, or it may not be read.
    """
    with _named_errors(path), _open(path) as file:
        return file.seek(0, os.SEEK_END)


@contextmanager
def open_stream(path: str, start: int = 0) -> Iterator[ByteStream]:
    """Open ``path`` and decompress where its ending says so; ``start`` skips bytes of a plain file.

    Errors of reading inside the ``with`` block are given the file's name as well.

    Raises:
        StorageError: the operating system refused to open or read.
        DamagedError: the compressed data is truncated or not what its ending says.
    """
    with _named_errors(path), _open(path) as file:
        if not is_compressed(path):
            file.seek(start)
            yield file
            return
        if file.seek(0, os.SEEK_END) == 0:
            raise EOFError("it is empty, and even nothing compressed has a header")
        file.seek(0)
        if path.endswith(_GZIP):
            with gzip.GzipFile(fileobj=file, mode="rb") as unzipped:
                yield unzipped
            return
        _check_zstd_is_whole(file)
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW)
        with decompressor.stream_reader(file, read_across_frames=True) as frames:
            yield frames


def read_exactly(stream: ByteStream, size: int) -> bytes:
    """Return ``size`` bytes, or fewer at the end of the stream only."""
    blocks = []
    while size and (block := stream.read(min(size, 1 << 24))):
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


def _open(path: str) -> BinaryIO:
    # Unbuffered: whoever reads asks for large blocks. A str is what we have.
    return open_input(path) if is_url(path) else cast(BinaryIO, open(path, "rb", buffering=0))  # noqa: PTH123


@contextmanager
def _named_errors(path: str) -> Iterator[None]:
    # A remote store's client has errors of its own besides the operating system's.
    with storage_errors(path) if is_url(path) else nullcontext():
        try:
            yield
        except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
            raise DamagedError(
                f"{path}: damaged or truncated compressed file: {error}; copy or download it again"
            ) from error
        except OSError as error:
            raise StorageError(
                f"{path}: cannot be read: {error.strerror or error}; check that it exists and may be read"
            ) from error


def _check_zstd_is_whole(file: BinaryIO) -> None:
    """Walk over the frames' and blocks' headers (RFC 8878, section 3.1), then rewind.

    The decompressor takes the end of the input for the end of the data, so a truncated file would lose
    documents without a word. The walk reads three bytes in 128 KiB of text.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)

    def number(width: int) -> int:
        field = file.read(width)
        if len(field) < width:
            raise EOFError(f"it ends inside a header, at byte {size:,}")
        return int.from_bytes(field, "little")

    def skip(count: int) -> None:
        if file.seek(count, os.SEEK_CUR) > size:
            raise EOFError(f"it ends inside a frame, at byte {size:,}")

    while file.tell() < size:
        magic = number(4)
        if magic & ~0xF == _ZSTD_SKIPPABLE_MAGIC:
            skip(number(4))
            continue
        if magic != _ZSTD_MAGIC:
            raise zstandard.ZstdError(f"no zstd frame begins at byte {file.tell() - 4:,}")
        descriptor = number(1)
        single_segment, content_size = descriptor >> 5 & 1, descriptor >> 6
        skip((1 - single_segment) + (0, 1, 2, 4)[descriptor & 3])  # window, dictionary id
        skip((single_segment, 2, 4, 8)[content_size])
        last = False
        while not last:
            block = number(3)
            last, is_run = bool(block & 1), block >> 1 & 3 == 1
            skip(1 if is_run else block >> 3)
        skip(4 * (descriptor >> 2 & 1))  # checksum
    file.seek(0)
