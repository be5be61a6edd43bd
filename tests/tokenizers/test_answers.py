"""An engine proves itself at every opening; the reference is asked once."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from tokpack import cache
from tokpack.batches import TextBatch, TokenBatch
from tokpack.protocols import Special
from tokpack.tokenizers.answers import has_proved_itself
from tokpack.tokenizers.byte import ByteTokenizer


class Reference(ByteTokenizer):
    """Notes that it is asked."""

    asked: ClassVar[list[int]] = []
    version = 1

    @property
    def engine(self) -> str:
        return f"reference {self.version}"

    def encode_batch(self, texts: TextBatch, *, special: Special = "text") -> TokenBatch:
        self.asked.append(len(texts))
        return super().encode_batch(texts, special=special)


class Newer(Reference):
    version = 2


class Wrong(ByteTokenizer):
    def encode_batch(self, texts: TextBatch, *, special: Special = "text") -> TokenBatch:
        batch = super().encode_batch(texts, special=special)
        return TokenBatch(batch.tokens ^ 1, batch.offsets)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("answers/*/answers"))


def test_the_reference_is_asked_once(folder: Path) -> None:
    for reference in (Reference(), Newer()):
        Reference.asked.clear()
        assert has_proved_itself(ByteTokenizer(), reference)
        assert Reference.asked
        Reference.asked.clear()
        assert has_proved_itself(ByteTokenizer(), reference)
        assert not Reference.asked
    assert len(entries(folder)) == 2


def test_a_wrong_engine_is_refused_with_and_without_a_record(folder: Path) -> None:
    assert not has_proved_itself(Wrong(), Reference())
    assert not has_proved_itself(Wrong(), Reference())
    assert has_proved_itself(ByteTokenizer(), Reference())


@pytest.mark.parametrize("content", [b"", b"\xff", b"0" * 64])
def test_a_damaged_record_is_made_again(folder: Path, content: bytes) -> None:
    assert has_proved_itself(ByteTokenizer(), Reference())
    [entry] = entries(folder)
    genuine = entry.read_bytes()
    entry.write_bytes(content)
    assert has_proved_itself(ByteTokenizer(), Reference())
    assert entry.read_bytes() == genuine


def test_without_a_folder_to_write_to_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    for value in ("", str(tmp_path / "file")):
        monkeypatch.setenv(cache.VARIABLE, value)
        for _ in range(2):
            Reference.asked.clear()
            assert has_proved_itself(ByteTokenizer(), Reference())
            assert Reference.asked
            assert not has_proved_itself(Wrong(), Reference())


def test_where_the_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "tokpack"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path.home() / ".cache" / "tokpack"


def test_an_entry_appears_whole_or_not_at_all(folder: Path) -> None:
    def fail(filling: Path) -> None:
        (filling / "half").write_text("x")
        raise OSError(28, "no space")

    assert cache.cached_folder("kind", "key", write=fail) is None
    assert list((folder / "kind").iterdir()) == []
    entry = cache.cached_folder("kind", "key", write=lambda filling: (filling / "a").write_text("x"))
    assert entry == folder / "kind" / "key"
    assert cache.cached_folder("kind", "key", write=fail) == entry  # another was quicker
