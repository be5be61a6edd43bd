"""Training from batches of documents, and the files it ends in, opened by the libraries of the field."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import tiktoken
import tiktoken.load
from tokenizers import Tokenizer
from tokenizers.models import BPE

from tokpack.batches import TextBatch
from tokpack.errors import UsageError
from tokpack.protocols import TokenizerOptions, TrainingOptions
from tokpack_bpe.opening import open_tokenizer
from tokpack_bpe.patterns import PATTERNS
from tokpack_bpe.train import train, train_vocabulary
from tokpack_bpe.vocabulary import mapped
from tokpack_bpe.writers import files_of

WORDS = (
    *("the", "cat", "sat", "on", "a", "mat", "didn't", "DIDN'T", "wir", "würden", "12345", "x=1;", "---"),
    *("日本語", "ภาษาไทย", "\n\n", "\t\r\n"),
)


def story(seed, words=400):
    rng = random.Random(seed)
    return "".join(rng.choice(WORDS) + rng.choice(["", " ", " ", "  ", "\n"]) for _ in range(words))


def batches(count=12):
    return [TextBatch.from_texts([story(3 * i), story(3 * i + 1), ""]) for i in range(count)]


def options(vocab_size=400, **changes):
    return TrainingOptions(vocab_size=vocab_size, **changes)


@pytest.fixture(scope="module", params=PATTERNS)
def vocabulary(request):
    return train_vocabulary(batches(), options(pattern=request.param, special_tokens=("<|end|>", "<|pad|>")))


def tiktoken_encoding(vocabulary, path):
    path.write_bytes(files_of(vocabulary)["ranks.tiktoken"])
    ranks = tiktoken.load.load_tiktoken_bpe(str(path))
    return tiktoken.Encoding(
        "trained",
        pat_str=PATTERNS[vocabulary.pattern],
        mergeable_ranks=ranks,
        special_tokens=vocabulary.special_tokens,
    )


def test_ids_are_in_the_documented_order(vocabulary):
    assert vocabulary.vocab_size == 400
    assert vocabulary.tokens[0] == b"!"
    assert vocabulary.tokens[220] == b" "
    assert len(set(vocabulary.tokens)) == 398
    assert vocabulary.special_tokens == {"<|end|>": 398, "<|pad|>": 399}


def test_tokenizers_and_tiktoken_open_it_with_equal_ids(vocabulary, tmp_path):
    tokenizer = Tokenizer.from_str(files_of(vocabulary)["tokenizer.json"].decode())
    encoding = tiktoken_encoding(vocabulary, tmp_path / "ranks.tiktoken")
    assert tokenizer.get_vocab_size() == vocabulary.vocab_size
    assert {
        name: tokenizer.token_to_id(name) for name in vocabulary.special_tokens
    } == vocabulary.special_tokens
    for seed in range(50):
        text = story(seed, 60) + "<|end|>" + story(1000 + seed, 20)
        ids = encoding.encode(text, allowed_special="all")
        assert tokenizer.encode(text).ids == ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_vocab_and_merges_open_in_tokenizers(vocabulary, tmp_path):
    for name, content in files_of(vocabulary).items():
        (tmp_path / name).write_bytes(content)
    loaded = BPE.from_file(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    assert [loaded.token_to_id(mapped(token)) for token in vocabulary.tokens] == list(range(398))


def test_vocab_and_merges_open_as_gpt2_and_cs336_read_them(vocabulary):
    files = files_of(vocabulary)
    ids = json.loads(files["vocab.json"])
    assert list(ids.values()) == list(range(400))
    wanted = [tuple(mapped(vocabulary.tokens[i]) for i in pair) for pair in vocabulary.merges.tolist()]
    text = files["merges.txt"].decode()
    assert [tuple(line.split()) for line in text.split("\n")[1:-1]] == wanted
    of_two_words = [line.rstrip().split(" ") for line in text.splitlines()]
    assert [tuple(words) for words in of_two_words if len(words) == 2] == wanted


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_file_opens_as_the_tokenizer_that_was_trained(pattern, tmp_path):
    trained = train(batches(), options(pattern=pattern, special_tokens=("<|endoftext|>", "<|pad|>")))
    trained.save(tmp_path)
    names = ["", "tokenizer.json", "ranks.tiktoken", *(["vocab.json"] if pattern == "gpt2" else [])]
    reference = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = TextBatch.from_texts([story(seed, 100) for seed in range(20)])
    wanted = [reference.encode(text).ids for text in texts]
    for name in names:
        opened = open_tokenizer(str(tmp_path / name), TokenizerOptions())
        assert opened.special_tokens == trained.special_tokens
        assert opened.eos_id == 398
        assert [document.tolist() for document in opened.encode_batch(texts)] == wanted
        assert opened.content_digest == trained.content_digest
    assert [document.tolist() for document in trained.encode_batch(texts)] == wanted


def test_any_number_of_workers_and_any_batches_give_equal_files():
    whole = TextBatch.from_texts([text for batch in batches() for text in batch])
    wanted = files_of(train_vocabulary([whole], options()))
    for workers in (1, 2, 5, 40):
        assert files_of(train_vocabulary(batches(), options(workers=workers))) == wanted


def test_progress_of_both_phases():
    seen = []
    train_vocabulary(batches(3), options(progress=lambda *report: seen.append(report), workers=2))
    counting = [done for phase, done, _ in seen if phase == "counting"]
    assert len(counting) == 3
    assert counting[-1] == sum(batch.nbytes for batch in batches(3))
    assert seen[-1] == ("merging", 143, 143)


def test_fewer_merges_than_asked_where_no_pair_is_left():
    vocabulary = train_vocabulary([TextBatch.from_texts(["aaa aaa"])], options(vocab_size=5000))
    assert vocabulary.tokens[256:] == [b"aa", b"aaa", b" aaa"]
    assert vocabulary.special_tokens == {"<|endoftext|>": 259}
    few = train_vocabulary([TextBatch.from_texts(["a b"])], options(vocab_size=5000, min_frequency=2))
    assert few.merges.shape == (0, 2)
    assert files_of(few)["merges.txt"].count(b"\n") == 1


def test_smallest_vocabulary_has_no_merges():
    assert train_vocabulary(batches(1), options(vocab_size=257)).vocab_size == 257


def test_long_tokens_and_rare_pairs_are_left_out():
    limited = train_vocabulary(batches(), options(vocab_size=2000, max_token_length=4))
    assert max(map(len, limited.tokens)) == 4
    assert limited.merges.dtype == np.uint32
    frequent = train_vocabulary(batches(), options(vocab_size=2000, min_frequency=100))
    assert 256 < frequent.vocab_size < train_vocabulary(batches(), options(vocab_size=2000)).vocab_size


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vocab_size": 256}, "need 257"),
        ({"vocab_size": 1 << 40}, "the most is 16,777,216"),
        ({"model": "unigram"}, "learns byte-level BPE, not 'unigram'"),
        ({"pattern": "gpt3"}, "unknown pattern 'gpt3'; choose one of: gpt2, cl100k"),
        ({"tie_rule": "coin"}, "unknown tie rule 'coin'; choose one of: bytes, hf"),
        ({"min_frequency": -1}, "give 1 or more"),
        ({"max_token_length": 0}, "give 1 or more"),
        ({"special_tokens": ("",)}, "too short"),
        ({"special_tokens": ("<a>", "<a>")}, "given twice"),
        ({"special_tokens": ("<a>", "<a><a>")}, "overlap"),
        ({"special_tokens": ("<a>", "x<a>y")}, "overlap"),
        ({"special_tokens": ("<ab", "b>")}, "overlap"),
        ({"special_tokens": ("<\ud800>",)}, "not valid Unicode"),
        ({"special_tokens": ("Ġa",), "vocab_size": 2000}, "how vocabulary files spell the bytes b' a'"),
    ],
)
def test_impossible_options_are_refused_by_name(changes, says):
    with pytest.raises(UsageError, match=says):
        train_vocabulary(batches(), options(**changes))


@pytest.mark.parametrize(
    "empty", [[], [TextBatch.from_texts(["", ""])], [TextBatch.from_texts(["<|endoftext|>"])]]
)
def test_an_empty_corpus_is_refused(empty):
    with pytest.raises(UsageError, match="no text to train on"):
        train_vocabulary(empty, options())


def test_what_the_documents_raise_ends_the_training():
    def broken():
        yield from batches(3)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        train_vocabulary(broken(), options(workers=2))
