"""The contract of a tokenizer, and what this one has beyond it."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tokpack.batches import TextBatch, TokenBatch
from tokpack.errors import DamagedError, SpecialTokenError, UsageError
from tokpack.protocols import TiktokenModel, TokenizerOptions
from tokpack.testing.tokenizers import TokenizerConformance
from tokpack_bpe.opening import accelerate, open_tokenizer
from tokpack_bpe.patterns import PATTERNS


class TestSmallTokenizer(TokenizerConformance):
    reference = "bpe:small"

    @pytest.fixture
    def tokenizer(self, small):
        return small


@pytest.mark.parametrize("name", ["gpt2", "o200k_base", "gpt-neox-olmo"])
class TestRealTokenizers(TokenizerConformance):
    reference = "bpe:real"

    @pytest.fixture
    def tokenizer(self, name, ours):
        return ours(name)


TEXTS = ["the abc", "", "a <|endoftext|> b", "é1234\n  the", "x" * 100]


def test_merges_and_ids_of_the_small_one(small):
    # ab: 0, abc: 2, th: 4, the: 6, Ġthe: 8, Ġa: 10, 12: 12, 123: 14, ĠĠ: 16, ĠĠĠĠ: 18, é: 20
    assert small.encode_texts(["abc the", "1234", "     the", "é"]).tokens.tolist() == [
        *(2, 8),
        *(14, small.definition.tokens[b"4"]),
        *(18, 8),
        20,
    ]
    assert small.special_tokens == {"<|endoftext|>": 1001}
    assert small.vocab_size == 1002


def test_strings_and_batches_give_the_same(small):
    ours, theirs = small.encode_texts(TEXTS), small.encode_batch(TextBatch.from_texts(TEXTS))
    assert np.array_equal(ours.tokens, theirs.tokens)
    assert np.array_equal(ours.offsets, theirs.offsets)
    assert small.count_tokens(TextBatch.from_texts(TEXTS)).tolist() == theirs.lengths.tolist()


def test_lone_surrogates_are_refused(small):
    with pytest.raises(UnicodeEncodeError):
        small.encode_texts(["a", "\ud800"])


def test_the_document_that_spells_a_special_token_is_named(small):
    for threads in (1, 4):
        texts = ["x" * 200_000] * 9 + TEXTS
        with pytest.raises(SpecialTokenError, match=r"document 11 .* '<\|endoftext\|>'") as caught:
            small.encode_texts(texts, special="error", threads=threads)
        assert caught.value.document == 11
    with pytest.raises(SpecialTokenError):
        small.count_tokens(TextBatch.from_texts(TEXTS), special="error")


@pytest.mark.parametrize("threads", [0, 1, 2, 3, 64])
def test_threads_change_nothing(threads, small):
    texts = [f"{i} the abc\n" * (i % 97) for i in range(3_000)]
    one, many = small.encode_texts(texts), small.encode_texts(texts, threads=threads)
    assert np.array_equal(one.tokens, many.tokens)
    assert np.array_equal(one.offsets, many.offsets)


def test_many_callers_at_once(small):
    texts = [[f"{caller} the {i} abc" for i in range(500)] for caller in range(16)]
    alone = [small.encode_texts(part).tokens.tolist() for part in texts]
    with ThreadPoolExecutor(16) as pool:
        together = pool.map(lambda part: small.encode_texts(part).tokens.tolist(), texts * 8)
    assert list(together) == alone * 8


def _encode_in_child(tokenizer, queue):
    queue.put(tokenizer.encode_texts(TEXTS, threads=2).tokens.tolist())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_encodes_alike(method, small):
    expected = small.encode_texts(TEXTS, threads=2).tokens.tolist()
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_encode_in_child, args=(small, queue))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join()


def test_a_pickle_is_small_and_equal(small):
    again = pickle.loads(pickle.dumps(small))
    assert again.content_digest == small.content_digest
    assert again.encode_texts(TEXTS).tokens.tolist() == small.encode_texts(TEXTS).tokens.tolist()


def test_decoding_every_kind_of_ids(small):
    tokens = small.encode_texts(["the abc 1234"]).tokens
    for ids in (
        tokens,
        tokens.astype(np.uint32),
        tokens.astype(np.int64),
        tokens.tolist(),
        tokens[::-1][::-1],
    ):
        assert small.decode_bytes(ids) == b"the abc 1234"
    assert small.decode_bytes([1001, 8]) == b"<|endoftext|> the"
    assert small.decode_bytes([]) == b""
    for length in range(40):  # ends of the output, where whole slots no longer fit
        assert small.decode_bytes([18] * length) == b"    " * length


@pytest.mark.parametrize("wrong", [[1], [2**31], [-1], [2**40], [1002], [0.5]])
def test_unknown_ids_are_refused(wrong, small):
    with pytest.raises(DamagedError, match="in the vocabulary"):
        small.decode_bytes(wrong)
    if isinstance(wrong[0], int) and wrong[0] >= 0:
        with pytest.raises(DamagedError, match="in the vocabulary"):
            small.decode_batch(TokenBatch(np.array(wrong, np.uint64), np.array([0, 1])))


def test_damaged_batches_are_refused(small):
    data = np.frombuffer(b"abc", np.uint8)
    for offsets in ([], [1, 3], [0, 2, 1], [0, 4], [0, -1]):
        with pytest.raises(ValueError, match="offsets"):
            small.encode_batch(TextBatch(data, np.array(offsets, np.int64)))


def test_tokens_longer_than_a_slot():
    ranks = {bytes([byte]): byte for byte in range(256)} | {b" " * n: 256 + n for n in (2, 4, 8, 16, 32, 64)}
    tokenizer = accelerate(TiktokenModel(PATTERNS["gpt2"], ranks, {}))
    tokens = tokenizer.encode_texts([" " * 201 + "a"]).tokens
    assert tokens.tolist() == [320, 320, 320, 264, ord(" "), ord("a")]
    assert tokenizer.decode_bytes(tokens) == b" " * 201 + b"a"


def test_65536_ids_fit_two_bytes():
    bytes_of = {bytes([byte]): byte for byte in range(256)}
    for last, itemsize in ((65_535, 2), (65_536, 4)):
        tokenizer = accelerate(TiktokenModel(PATTERNS["gpt2"], bytes_of, {"<|end|>": last}))
        tokens = tokenizer.encode_texts(["a<|end|>"], special="parse").tokens
        assert tokens.tolist() == [97, last]
        assert tokens.dtype.itemsize == itemsize


def test_there_is_no_reference_engine(tmp_path):
    with pytest.raises(UsageError, match="no reference engine"):
        open_tokenizer(str(tmp_path), TokenizerOptions(engine="reference"))
