"""What every tokenizer must do."""

from __future__ import annotations

import pickle
import re
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokpack.batches import TextBatch, TokenBatch
from tokpack.errors import DamagedError, DocumentError, SpecialTokenError
from tokpack.plugins import discover
from tokpack.protocols import Tokenizer, TokenizerOptions
from tokpack.references import Reference
from tokpack.testing.rules import in_threads, property_of_a_plugin
from tokpack.tokenizers.opening import open_tokenizer
from tokpack.tokenizers.probe import identify
from tokpack.tokenizers.probe_texts import probe_texts

__all__ = ["TokenizerConformance"]

any_texts = st.lists(
    st.one_of(
        st.text(max_size=30), st.sampled_from(["", " ", "the the", "a\r\nb", "\0", "🙂" * 5, "e\u0301"])
    ),
    max_size=6,
)


class TokenizerConformance:
    """Subclass it, set ``reference`` or override ``tokenizer``, and pytest does the rest."""

    #: What a user would write: "tiktoken:gpt2".
    reference: ClassVar[str]
    #: Which engine is under test, as in `TokenizerOptions`.
    options: ClassVar[TokenizerOptions] = TokenizerOptions()

    @pytest.fixture
    def tokenizer(self) -> Tokenizer:
        """The tokenizer under test."""
        return _opened(self.reference, self.options)

    @pytest.fixture
    def lossless(self, tokenizer: Tokenizer) -> bool:
        """Whether decoding gives back every text: the tokenizer says, or else its backend's record."""
        record = discover().tokenizers[Reference.parse(self.reference).backend]
        return bool(getattr(tokenizer, "lossless", record.lossless))

    def reopen(self, directory: Path) -> Tokenizer:
        """Open what ``save`` wrote."""
        backend = Reference.parse(self.reference).backend
        return open_tokenizer(str(Reference(backend, str(directory))), options=self.options)

    def test_layout(self, tokenizer: Tokenizer) -> None:
        """Flat tokens, and int64 offsets that begin at 0 and end at the number of tokens."""
        for texts in ([], [""], ["", "a", "", "b c"], ["x" * 1000]):
            batch = tokenizer.encode_batch(TextBatch.from_texts(texts))
            assert batch.tokens.dtype in (np.uint16, np.uint32)
            assert batch.tokens.ndim == 1
            assert batch.offsets.dtype == np.int64
            assert len(batch) == len(texts)
            assert batch.offsets[0] == 0
            assert batch.offsets[-1] == len(batch.tokens)
            assert (np.diff(batch.offsets) >= 0).all()

    def test_nothing_is_added(self, tokenizer: Tokenizer) -> None:
        """An empty document has no tokens: BOS, EOS and templates are not the tokenizer's business."""
        assert tokenizer.encode_batch(TextBatch.from_texts(["", ""])).offsets.tolist() == [0, 0, 0]

    def test_ids_are_below_vocab_size(self, tokenizer: Tokenizer) -> None:
        """Every id of the probe set, and every special id, is in the vocabulary."""
        batch = tokenizer.encode_batch(TextBatch.from_texts(probe_texts()))
        assert int(batch.tokens.max()) < tokenizer.vocab_size
        special = [tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, *tokenizer.special_tokens.values()]
        assert all(0 <= token_id < tokenizer.vocab_size for token_id in special if token_id is not None)

    @property_of_a_plugin
    @given(texts=any_texts)
    def test_a_batch_is_its_documents(self, tokenizer: Tokenizer, texts: list[str]) -> None:
        """Documents know nothing of their neighbours in a batch."""
        together = tokenizer.encode_batch(TextBatch.from_texts(texts))
        alone = [tokenizer.encode_batch(TextBatch.from_texts([text])).tokens.tolist() for text in texts]
        assert [ids.tolist() for ids in together] == alone

    def test_texts_may_be_a_view(self, tokenizer: Tokenizer) -> None:
        """A batch may be read-only, and lie anywhere in someone else's memory."""
        content = TextBatch.from_texts(["one two", "", "drei é"])
        memory = np.concatenate(
            [np.full(3, ord("x"), np.uint8), content.data, np.full(3, ord("x"), np.uint8)]
        )
        view = TextBatch(memory[3:-3], content.offsets)
        view.data.flags.writeable = False
        _assert_same(tokenizer.encode_batch(view), tokenizer.encode_batch(content))

    def test_threads_agree(self, tokenizer: Tokenizer) -> None:
        """One tokenizer serves many threads."""
        texts = TextBatch.from_texts(probe_texts()[::7])
        wanted = tokenizer.encode_batch(texts)
        for batch in in_threads(lambda: tokenizer.encode_batch(texts)):
            _assert_same(batch, wanted)

    def test_it_pickles(self, tokenizer: Tokenizer) -> None:
        """A worker's copy is the same tokenizer."""
        assert identify(pickle.loads(pickle.dumps(tokenizer))) == identify(tokenizer)

    def test_it_saves(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        """What ``save`` wrote opens as an equal tokenizer, and saves as the same bytes again."""
        first, second = tmp_path / "first", tmp_path / "second"
        first.mkdir()
        second.mkdir()
        tokenizer.save(first)
        again = self.reopen(first)
        assert again.content_digest == tokenizer.content_digest
        assert identify(again).same_ids(identify(tokenizer))
        assert dict(again.special_tokens) == dict(tokenizer.special_tokens)
        assert (again.bos_id, again.eos_id, again.pad_id) == (
            tokenizer.bos_id,
            tokenizer.eos_id,
            tokenizer.pad_id,
        )
        again.save(second)
        assert _files(second) == _files(first)

    def test_names_of_content_and_engine(self, tokenizer: Tokenizer) -> None:
        """The digest is a SHA-256 in hex; the engine is a name and a version on one line."""
        assert re.fullmatch("[0-9a-f]{64}", tokenizer.content_digest)
        assert re.fullmatch(r"\S.*\d.*", tokenizer.engine)

    def test_special_tokens_are_text(self, tokenizer: Tokenizer) -> None:
        """By default, spelling a special token does not give its id: that would be an injection."""
        ordinary = tokenizer.encode_batch(TextBatch.from_texts(_spelled(tokenizer)))
        assert not np.isin(ordinary.tokens, list(tokenizer.special_tokens.values())).any()

    def test_special_tokens_are_parsed_on_demand(self, tokenizer: Tokenizer) -> None:
        """With ``parse``, a special token is its id, also in the middle of a document between spaces."""
        for token, token_id in _spellable(tokenizer).items():
            batch = tokenizer.encode_batch(TextBatch.from_texts([token, f"a {token} b"]), special="parse")
            assert batch[0].tolist() == [token_id]
            assert token_id in batch[1].tolist()

    def test_special_tokens_are_refused_on_demand(self, tokenizer: Tokenizer) -> None:
        """With ``error``, the first document that spells one is named; others are encoded as ever."""
        plain = TextBatch.from_texts(["plain", "", "text"])
        _assert_same(tokenizer.encode_batch(plain, special="error"), tokenizer.encode_batch(plain))
        for token in _spellable(tokenizer):
            with pytest.raises(SpecialTokenError) as caught:
                tokenizer.encode_batch(
                    TextBatch.from_texts(["plain", "", f"a {token} b", token]), special="error"
                )
            assert caught.value.document == 2

    @property_of_a_plugin
    @given(texts=any_texts)
    def test_claim_lossless(self, tokenizer: Tokenizer, lossless: bool, texts: list[str]) -> None:
        """``lossless`` means that decoding gives back every text, byte for byte."""
        if not lossless:
            pytest.skip("not claimed")
        for text in [*texts, *probe_texts()[::50]]:
            tokens = tokenizer.encode_batch(TextBatch.from_texts([text])).tokens
            assert tokenizer.decode_bytes(tokens) == text.encode()
            assert tokenizer.decode_bytes(tokens.tolist()) == text.encode()

    @pytest.mark.parametrize("beyond", [0, 1, 2**31])
    def test_unknown_ids_are_refused(self, tokenizer: Tokenizer, beyond: int) -> None:
        """Decoding an id outside of the vocabulary is a `DamagedError` that names it."""
        token_id = tokenizer.vocab_size + beyond
        with pytest.raises(DamagedError, match=f"{token_id}|{token_id:,}"):
            tokenizer.decode_bytes([token_id])

    @pytest.mark.parametrize("unit", [" ", "a", "\n", "é", "漢", "0", "-", "\0"])
    def test_long_runs(self, tokenizer: Tokenizer, unit: str) -> None:
        """A hundred thousand times one character gives ids, or a `DocumentError`; never a crash."""
        try:
            batch = tokenizer.encode_batch(TextBatch.from_texts([unit * 100_000]))
        except DocumentError:
            return
        assert int(batch.tokens.max(initial=0)) < tokenizer.vocab_size


@lru_cache(maxsize=1)  # opening may take a second, and every rule asks
def _opened(reference: str, options: TokenizerOptions) -> Tokenizer:
    return open_tokenizer(reference, options=options)


def _spelled(tokenizer: Tokenizer) -> list[str]:
    tokens = list(tokenizer.special_tokens)
    return [*tokens, *(f"a{token}b" for token in tokens), "".join(tokens)]


def _spellable(tokenizer: Tokenizer) -> dict[str, int]:
    """Return some special tokens; a tokenizer may have a thousand of them."""
    return dict(list(tokenizer.special_tokens.items())[:20])


def _assert_same(found: TokenBatch, wanted: TokenBatch) -> None:
    assert found.offsets.tolist() == wanted.offsets.tolist()
    assert found.tokens.tolist() == wanted.tokens.tolist()


def _files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
