"""When another plugin's engine may encode for a reference library."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tokpack.batches import TextBatch, TokenBatch
from tokpack.dtypes import TokenArray
from tokpack.errors import MismatchError, PluginError, UnsupportedError, UsageError
from tokpack.plugins import Plugins, Provider
from tokpack.protocols import NativeEngine, Special, TiktokenModel, TokenizerJson
from tokpack.specs import TokenizerSpec
from tokpack.tokenizers import acceleration
from tokpack.tokenizers.acceleration import native_engine

MODEL = TiktokenModel(pattern="x", ranks={}, special_tokens={"<|end|>": 256})


@dataclass(frozen=True)
class ByteTokenizer:
    """Bytes are ids, shifted: a stand-in for both sides."""

    shift: int = 0
    name: str = "engine 1"
    engine: str = "reference 1"
    vocab_size: int = 257
    special_tokens: dict[str, int] = field(default_factory=lambda: {"<|end|>": 256})
    bos_id: int | None = None
    eos_id: int | None = None
    pad_id: int | None = None
    content_digest: str = ""

    def encode_batch(self, texts: TextBatch, *, special: Special = "text") -> TokenBatch:
        return TokenBatch((texts.data + self.shift).astype("uint16"), texts.offsets)

    def decode_bytes(self, tokens: TokenArray | Sequence[int]) -> bytes:
        return bytes(tokens)

    def save(self, directory: Path) -> None:
        raise NotImplementedError


def unsupported(model: TiktokenModel | TokenizerJson) -> NativeEngine:
    raise UnsupportedError("pattern 'x' is not known")


@pytest.fixture
def announce(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., NativeEngine]], None]:
    """Make one engine the only one installed."""

    def install(accelerate: Callable[..., NativeEngine]) -> None:
        module = types.ModuleType("engine_under_test")
        module.__dict__["accelerate"] = accelerate
        monkeypatch.setitem(sys.modules, "engine_under_test", module)
        plugins = Plugins()
        spec = TokenizerSpec("fast", "an engine", open="x:y", accelerate="engine_under_test:accelerate")
        plugins.tokenizers.add(spec, Provider("fast"))
        monkeypatch.setattr(acceleration, "discover", lambda: plugins)

    monkeypatch.setattr(acceleration, "discover", Plugins)
    return install


def test_an_equal_engine_is_used(announce: Callable[..., None]) -> None:
    candidate = ByteTokenizer()
    announce(lambda model: candidate)
    assert native_engine(MODEL, reference=ByteTokenizer(), engine="auto") is candidate
    assert native_engine(MODEL, reference=ByteTokenizer(), engine="native") is candidate


def test_reference_is_never_replaced(announce: Callable[..., None]) -> None:
    announce(lambda model: ByteTokenizer())
    assert native_engine(MODEL, reference=ByteTokenizer(), engine="reference") is None


def test_unequal_ids_are_found(announce: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    announce(lambda model: ByteTokenizer(shift=1))
    assert native_engine(MODEL, reference=ByteTokenizer(), engine="auto") is None
    assert "does not give the ids of reference 1" in caplog.text
    with pytest.raises(MismatchError, match="engine 1 does not give the ids"):
        native_engine(MODEL, reference=ByteTokenizer(), engine="native")


def test_an_engine_that_cannot_be_imported_harms_nobody(
    announce: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    announce(lambda model: ByteTokenizer())
    monkeypatch.delattr(sys.modules["engine_under_test"], "accelerate")
    assert native_engine(MODEL, reference=ByteTokenizer(), engine="auto") is None
    assert "reinstall the plugin" in caplog.text
    with pytest.raises(PluginError, match="engine_under_test:accelerate"):
        native_engine(MODEL, reference=ByteTokenizer(), engine="native")


def test_native_says_why_it_is_refused(announce: Callable[..., None]) -> None:
    with pytest.raises(UsageError, match="pip install tokpack-bpe"):
        native_engine(MODEL, reference=ByteTokenizer(), engine="native")
    announce(unsupported)
    with pytest.raises(UsageError, match="fast: pattern 'x' is not known"):
        native_engine(MODEL, reference=ByteTokenizer(), engine="native")
    assert native_engine(MODEL, reference=ByteTokenizer(), engine="auto") is None
