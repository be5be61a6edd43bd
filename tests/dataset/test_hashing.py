"""Reading every byte once: hashes and ranges as the plain functions give them."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest

from tokpack.dataset import hashing
from tokpack.dataset.hashing import Span, Stretch, StretchSummary, hash_range, reading

BLOCK = 1 << 21


@pytest.fixture(params=["mapped", "read"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel without MADV_POPULATE_READ does, too."""
    if request.param == "read":
        monkeypatch.setattr(hashing, "_mapped", lambda file, start, size: None)


def read(root: Path, stretch: Stretch) -> StretchSummary | OSError:
    with reading(root, [stretch], 2) as results:
        return next(iter(results))[1]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("size", [0, 2, (1 << 18) - 2, BLOCK, BLOCK + 6, 3 * BLOCK + (1 << 19) + 4])
def test_hashes_and_spans(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(size).integers(5, 60_000, size // 2, dtype="<u2").tobytes()
    (tmp_path / "a").write_bytes(content)
    for block in (BLOCK, max(size, 1)):
        found = read(tmp_path, Stretch("a", 0, size, block, np.dtype("<u2")))
        assert isinstance(found, StretchSummary)
        pieces = [content[at : at + block] for at in range(0, size, block)] or [b""]
        assert found.blocks == [hashlib.sha256(piece).digest() for piece in pieces]
        ids = np.frombuffer(content, "<u2").tolist()
        assert (found.span.low, found.span.high) == (min(ids, default=None), max(ids, default=None))


@pytest.mark.usefixtures("way")
def test_a_stretch_inside_and_one_past_the_end(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000
    (tmp_path / "a").write_bytes(content)
    inside = read(tmp_path, Stretch("a", 2 * BLOCK, 4 * BLOCK, BLOCK))
    assert isinstance(inside, StretchSummary)
    assert inside.blocks[1] == hashlib.sha256(content[3 * BLOCK : 4 * BLOCK]).digest()
    assert inside.span == Span()
    past = read(tmp_path, Stretch("a", 4 * BLOCK, 5 * BLOCK, BLOCK))  # cut short meanwhile
    assert isinstance(past, StretchSummary)
    assert past.blocks == [hashlib.sha256(content[4 * BLOCK :]).digest()]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("start", "stop"), [(0, 10), (1, BLOCK + 4097), (5000, 9_000_000), (7, 7)])
def test_a_range_from_anywhere_to_anywhere(tmp_path: Path, start: int, stop: int) -> None:
    content = np.random.default_rng(1).bytes(5_000_000)
    (tmp_path / "a").write_bytes(content)
    with (tmp_path / "a").open("rb") as file:
        expected = content[start:stop]
        assert hash_range(file, start, stop) == (hashlib.sha256(expected).hexdigest(), len(expected))
    assert hash_range(io.BytesIO(content), start, stop)[1] == len(expected)


def test_what_cannot_be_read_is_an_answer(tmp_path: Path) -> None:
    assert isinstance(read(tmp_path, Stretch("none", 0, 5, 5)), FileNotFoundError)
    (tmp_path / "folder").mkdir()
    assert isinstance(read(tmp_path, Stretch("folder", 0, 5, 5)), IsADirectoryError)
