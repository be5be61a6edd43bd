"""The native trainer against the rule written out, published merges, and Hugging Face's trainer."""

from __future__ import annotations

import base64
import importlib.util
import itertools
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tokpack.batches import TextBatch
from tokpack.testing import shared_data
from tokpack_bpe import _native

SPECIAL = "<|endoftext|>"


HERE = Path(__file__).parent


def module_at(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


naive_merges = module_at(HERE / "naive_trainer.py").naive_merges


def counter_of(*documents, pattern="gpt2", special_tokens=(SPECIAL,)):
    counter = _native.WordCounter(pattern, list(special_tokens))
    batch = TextBatch.from_utf8([d.encode() if isinstance(d, str) else d for d in documents])
    counter.count(batch.data, batch.offsets)
    return counter


def merges_of(counter, max_merges, *, tie_rule="bytes", min_frequency=1, max_token_length=None):
    tokens = [bytes([byte]) for byte in _native.byte_order()]
    merges = []
    for left, right in counter.merges(
        max_merges, tie_rule, min_frequency, max_token_length, lambda done: None
    ):
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    return merges


def documents_of(case):
    """The documents that a case of bpe_training.json was trained on."""
    folder = shared_data()
    entry = next(
        t for t in json.loads((folder / "manifest.json").read_text())["texts"] if t["name"] == case["text"]
    )
    content = (folder / entry["file"]).read_bytes()
    if entry["rule"] == "b64":
        raw = [base64.b64decode(json.loads(line)["b64"]) for line in content.splitlines()]
        return [document.decode(errors="replace") for document in raw]
    if entry["rule"].startswith("jsonl:"):
        field = entry["rule"].partition(":")[2]
        return [json.loads(line)[field] for line in content.splitlines()]
    return [content.decode()]


@pytest.mark.parametrize(
    "text", ["cs336_corpus_en", "tinystories_2MiB", "tinyshakespeare", "fastapi_ru", "code_mbxp", "edge"]
)
def test_merges_equal_the_published_ones(text):
    folder = shared_data()
    cases = json.loads((folder / "bpe_training.json").read_text())["cases"]
    case = next(case for case in cases if case["text"] == text)
    lines = (folder / case["merges_file"]).read_bytes().splitlines()
    wanted = [tuple(map(base64.b64decode, line.split())) for line in lines]
    counter = counter_of(*documents_of(case), special_tokens=case["special_tokens"])
    assert (counter.unique, counter.total) == (case["unique_pretokens"], case["pretokens"])
    assert len(wanted) == case["n_merges"]
    assert merges_of(counter, len(wanted)) == wanted


def test_every_published_case_is_tested():
    cases = json.loads((shared_data() / "bpe_training.json").read_text())["cases"]
    assert len(cases) == 6


def test_merges_equal_those_of_cs336():
    folder = shared_data() / "cs336"
    mapped = {chr(c): byte for byte, c in pre_tokenizers_alphabet().items()}
    wanted = [
        tuple(bytes(mapped[c] for c in token) for token in line.split(" "))
        for line in (folder / "train-bpe-reference-merges.txt").read_text().splitlines()
    ]
    counter = counter_of((folder / "corpus.en").read_bytes())
    assert merges_of(counter, len(wanted)) == wanted


def pre_tokenizers_alphabet():
    """Byte -> code point, as Hugging Face's byte-level pre-tokenizer maps it."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    points = {}
    for point in itertools.chain(range(256), range(0x100, 0x10FFFF, 0x1000)):
        if 0xD800 <= point < 0xE000:
            continue
        text = chr(point)
        ((mapped, _),) = level.pre_tokenize_str(text)
        points.update(dict(zip(text.encode(), map(ord, mapped), strict=True)))
    # The bytes that no UTF-8 text holds are mapped like their kind: 0xA1 and above stay as they are.
    return {byte: points.get(byte, byte) for byte in range(256)}


def hugging_face_merges(documents, vocab_size, *, min_frequency=0):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    byte_of = {chr(point): byte for byte, point in pre_tokenizers_alphabet().items()}
    return [tuple(bytes(byte_of[c] for c in token) for token in pair) for pair in merges]


@pytest.mark.parametrize("seed", range(4))
def test_merges_equal_those_of_hugging_face_until_no_pair_is_left(seed):
    random.seed(seed)
    letters = random.choice(["ab", "aé日", "xyz 0"])
    documents = ["".join(random.choices(letters + " \n", k=random.randint(1, 40))) for _ in range(60)]
    wanted = hugging_face_merges(documents, 4_000)
    assert merges_of(counter_of(*documents), 4_000, tie_rule="hf") == wanted


@pytest.mark.parametrize("min_frequency", [0, 7])
def test_merges_equal_those_of_hugging_face_on_real_text(min_frequency):
    folder = shared_data()
    names = ("tinystories_2MiB.txt", "tinyshakespeare.txt")
    documents = [
        part for name in names for part in (folder / "text" / name).read_bytes().decode().split(SPECIAL)
    ]
    wanted = hugging_face_merges(documents, 8_000, min_frequency=min_frequency)
    ours = merges_of(counter_of(*documents), 8_000 - 257, tie_rule="hf", min_frequency=min_frequency)
    assert ours == wanted


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_merges_equal_those_of_hugging_face_on_50_mb():
    machine_text = module_at(HERE.parents[2] / "benchmarks" / "machine_text.py")
    documents = list(machine_text.iter_documents(60))
    if sum(len(text.encode()) for text in documents) < 50e6:
        pytest.skip("this machine has less than 50 MB of documentation and sources")
    counter = counter_of(*documents)
    for vocab_size in (10_000, 32_000):
        ours = merges_of(counter, vocab_size - 257, tie_rule="hf")
        assert ours == hugging_face_merges(documents, vocab_size)


@settings(deadline=None)
@given(
    words=st.dictionaries(st.text("abc", min_size=1, max_size=30), st.integers(1, 40), max_size=12),
    tie_rule=st.sampled_from(["bytes", "hf"]),
    min_frequency=st.integers(0, 30),
    max_token_length=st.none() | st.integers(1, 9),
)
def test_merges_equal_the_rule_written_out(words, tie_rule, min_frequency, max_token_length):
    # A line of one letter kind is one word; long runs and few letters make overlaps and ties the rule.
    documents = [word for word, count in words.items() for _ in range(count)]
    options = {"tie_rule": tie_rule, "min_frequency": min_frequency, "max_token_length": max_token_length}
    wanted = naive_merges({word.encode(): count for word, count in words.items()}, 300, **options)
    assert merges_of(counter_of(*documents), 300, **options) == wanted


def test_result_does_not_depend_on_order_or_on_who_counted():
    texts = [f"{random.Random(i).random()} the cat {i % 13} sat\n" * 3 for i in range(200)]
    whole = counter_of(*texts)
    halves = counter_of(*reversed(texts[::2])), counter_of(*texts[1::2])
    halves[0].add(halves[1])
    assert halves[0].total == whole.total
    assert dict(halves[0].words()) == dict(whole.words())
    assert merges_of(halves[0], 500) == merges_of(whole, 500)


@pytest.mark.parametrize("pattern", ["gpt2", "cl100k", "llama3", "qwen2", "o200k"])
def test_words_are_the_pretokens(pattern):
    pieces = [
        "don't",
        " WORD",
        "  \n\n",
        "12345",
        "日本語",
        "-" * 40,
        " long" * 9,
        "\u017f",
        "é" * 8,
        "!?",
        "x" * 15,
        "y" * 16,
    ]
    rng = random.Random(7)
    documents = ["".join(rng.choices(pieces, k=rng.randint(0, 30))) for _ in range(300)]
    wanted: Counter[bytes] = Counter()
    for document in documents:
        data = document.encode()
        edges = [*_native.pretoken_starts(data, pattern, scalar=True), len(data)]
        wanted.update(data[a:b] for a, b in itertools.pairwise(edges))
    counter = counter_of(*documents, pattern=pattern)
    assert dict(counter.words()) == wanted
    assert counter.unique == len(wanted)
    assert counter.total == wanted.total()


def test_special_tokens_split_and_are_not_counted():
    text = "a b<|x|>c dd<|end|><|x|><|end|> e<|x"
    counter = counter_of(text, special_tokens=["<|x|>", "<|end|>"])
    wanted = {b"a": 1, b" b": 1, b"c": 1, b" dd": 1, b" e": 1, b"<|": 1, b"x": 1}
    assert dict(counter.words()) == wanted
    assert dict(counter_of("<|x|>", special_tokens=["<|x|>"]).words()) == {}


def test_counts_beyond_32_bits():
    counter = counter_of("ab " * 4 + "c")
    for _ in range(31):
        twin = counter_of()
        twin.add(counter)
        counter.add(twin)
    assert dict(counter.words())[b" ab"] == 3 * 2**31
    assert merges_of(counter, 2) == [(b"a", b"b"), (b" ", b"ab")]


def test_a_huge_word_needs_neither_stack_nor_quadratic_time():
    assert merges_of(counter_of("a" * (1 << 20)), 30)[0] == (b"a", b"a")
    noise = "".join(random.Random(3).choices("acgt", k=1 << 20))
    assert len(merges_of(counter_of(noise), 2_000)) == 2_000


def test_progress_may_end_the_training():
    class StopError(Exception):
        pass

    def stop(done):
        raise StopError

    with pytest.raises(StopError):
        counter_of("a b c aa bb").merges(10, "bytes", 1, None, stop)
