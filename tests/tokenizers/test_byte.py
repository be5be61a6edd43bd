from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokpack.batches import TextBatch
from tokpack.errors import DamagedError, SpecialTokenError, UsageError
from tokpack.protocols import TokenizerOptions
from tokpack.tokenizers.byte import open_tokenizer

EOT = "<|endoftext|>"
BYTE = open_tokenizer("", TokenizerOptions())
TEXTS = st.lists(st.lists(st.sampled_from([EOT, "<|endof", "text|>", "a", "é", "<", ""])).map("".join))


@given(TEXTS)
def test_text(texts):
    batch = BYTE.encode_batch(TextBatch.from_texts(texts))
    assert [tokens.tolist() for tokens in batch] == [list(text.encode()) for text in texts]
    assert [BYTE.decode_bytes(tokens).decode() for tokens in batch] == texts


@given(TEXTS)
def test_parse(texts):
    batch = BYTE.encode_batch(TextBatch.from_texts(texts), special="parse")
    wanted = []
    for text in texts:
        head, *tails = text.encode().split(EOT.encode())
        wanted.append(list(head) + [token for tail in tails for token in (256, *tail)])
    assert [tokens.tolist() for tokens in batch] == wanted
    assert BYTE.decode_bytes(batch.tokens).decode() == "".join(texts)


@given(TEXTS)
def test_error(texts):
    first = next((index for index, text in enumerate(texts) if EOT in text), None)
    if first is None:
        assert len(BYTE.encode_batch(TextBatch.from_texts(texts), special="error")) == len(texts)
        return
    with pytest.raises(SpecialTokenError, match="endoftext") as caught:
        BYTE.encode_batch(TextBatch.from_texts(texts), special="error")
    assert caught.value.document == first


def test_what_it_says_of_itself(tmp_path):
    assert BYTE.vocab_size == 257
    assert BYTE.eos_id == BYTE.special_tokens[EOT] == 256
    assert BYTE.bos_id is None
    assert BYTE.pad_id is None
    BYTE.save(tmp_path)
    again = open_tokenizer(str(tmp_path), TokenizerOptions())
    assert again == pickle.loads(pickle.dumps(BYTE)) == BYTE
    assert again.content_digest == BYTE.content_digest


@pytest.mark.parametrize("bad", [[257], [-1], [5, 70_000]])
def test_decoding_unknown_ids(bad):
    with pytest.raises(DamagedError, match=f"{max(bad, key=abs):,}"):
        BYTE.decode_bytes(bad)


def test_no_model_and_no_engine():
    with pytest.raises(UsageError, match="gpt2"):
        open_tokenizer("gpt2", TokenizerOptions())
    with pytest.raises(UsageError, match="native"):
        open_tokenizer("", TokenizerOptions(engine="native"))
