"""Ids on texts that nobody wrote, against the reference libraries."""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest
import tiktoken
import tokenizers
from tokpack_bpe_generators import documents

from tokpack.batches import TextBatch
from tokpack.protocols import TiktokenModel, TokenizerJson
from tokpack.testing import shared_data
from tokpack.testing.expected import shared_texts
from tokpack_bpe.opening import accelerate
from tokpack_bpe.patterns import DEEPSEEK_SPLITS, PATTERNS
from tokpack_bpe.tokenizer import BpeTokenizer
from tokpack_bpe.vocabulary import BYTE_ORDER, mapped

OPENAI = ["gpt2", "cl100k_base", "o200k_base"]

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
NO_REGEX = BYTE_LEVEL | {"use_regex": False}


def isolated(regex):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


#: Parts of a tokenizer.json, each put into GPT-2's.
FAMILIES = {
    "gpt2": {},
    "llama3": {
        "pre_tokenizer": sequence(isolated(PATTERNS["llama3"]), NO_REGEX),
        "model": {"ignore_merges": True},
    },
    "qwen2": {
        "pre_tokenizer": sequence(isolated(PATTERNS["qwen2"]), NO_REGEX),
        "normalizer": {"type": "NFC"},
    },
    "o200k": {"pre_tokenizer": sequence(isolated(PATTERNS["o200k"]), NO_REGEX)},
    "starcoder": {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True}, BYTE_LEVEL)},
    "deepseek": {"pre_tokenizer": sequence(*map(isolated, DEEPSEEK_SPLITS), NO_REGEX)},
}


def assert_equal_to_openai(tokenizer, encoding, texts, special="text"):
    batch = tokenizer.encode_texts(texts, special=special)
    if special == "text":
        expected = encoding.encode_ordinary_batch(texts, num_threads=1)
    else:
        expected = [encoding.encode(text, allowed_special="all") for text in texts]
    assert_documents(batch, expected, texts)


def assert_documents(batch, expected, texts):
    flat = np.fromiter(itertools.chain.from_iterable(expected), dtype=np.int64)
    if np.array_equal(batch.tokens, flat) and batch.lengths.tolist() == [len(ids) for ids in expected]:
        return
    for text, ids, reference in zip(texts, batch, expected, strict=True):
        assert ids.tolist() == reference, ascii(text)


def assert_equal_to_tokenizers(tokenizer, library, texts):
    for special in ("text", "parse"):
        library.encode_special_tokens = special == "text"
        expected = [e.ids for e in library.encode_batch_fast(texts, add_special_tokens=False)]
        assert_documents(tokenizer.encode_texts(texts, special=special), expected, texts)


def family(name):
    """GPT-2's vocabulary in the clothes of another family; both engines."""
    content = json.loads((shared_data() / "tokenizers/gpt2/tokenizer.json").read_bytes())
    for part, value in FAMILIES[name].items():
        content[part] = content[part] | value if part == "model" else value
    encoded = json.dumps(content)
    return accelerate(TokenizerJson(encoded.encode())), tokenizers.Tokenizer.from_str(encoded)


def seeds():
    return [
        text for name in ("fastapi_en_markdown", "code_mbxp", "fastapi_ja") for text in shared_texts(name)
    ]


@pytest.mark.parametrize("name", OPENAI)
@pytest.mark.parametrize(
    "count", [pytest.param(30_000, id="30k"), pytest.param(330_000, id="330k", marks=pytest.mark.nightly)]
)
def test_generated_documents_as_tiktoken(name, count, ours, openai):
    texts = list(documents(count, seed=count, seeds=seeds()))
    assert_equal_to_openai(ours(name), openai(name), texts)
    assert_equal_to_openai(ours(name), openai(name), texts[: count // 10], special="parse")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "count", [pytest.param(2_000, id="2k"), pytest.param(50_000, id="50k", marks=pytest.mark.nightly)]
)
def test_generated_documents_as_tokenizers(name, count):
    assert_equal_to_tokenizers(*family(name), list(documents(count, seed=count + 1, seeds=seeds())))


@pytest.mark.parametrize("name", ["gpt-neox-olmo", "torchtitan_2k"])
def test_generated_documents_as_tokenizers_with_added_tokens(name, ours):
    path = shared_data() / "tokenizers" / name / "tokenizer.json"
    library = tokenizers.Tokenizer.from_file(str(path))
    assert_equal_to_tokenizers(ours(name), library, list(documents(3_000, seed=7, seeds=seeds())))


@pytest.mark.parametrize(
    "name", ["gpt2", "o200k_base", pytest.param("cl100k_base", marks=pytest.mark.nightly)]
)
def test_every_code_point_in_six_contexts(name, ours, openai):
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    for context in ("{}", "a{}b", " {}", "{0}{0}", "{}'s", "1{}\n"):
        pieces = [context.format(point) + "x " for point in points]
        texts = ["".join(pieces[i : i + 4096]) for i in range(0, len(pieces), 4096)]
        assert_equal_to_openai(ours(name), openai(name), texts)


#: Units that libraries have been slow, wrong or crashed on when they are repeated.
REPEATED = [
    *"aA0.-_=*#/\\'\"éß日の한กع😀\u0301\x00\x7f\ufeff\u200d",
    *(" ", "\n", "\t", "\r\n", "\u00a0", "\u3000", " \n", "\n ", "  a", " a", "a ", "\n\n\t", ". "),
    *("ab", "abc", "the", "aA", "Aa", "a1", "1,", "'s", "'S'", "''", "a'", "<|", "|>", "<|endoftext|>"),
    *("日本", "👍🏽", "e\u0301", "\u1100\u1161", "ab\n", "==-", "0x", "é日", "zq", "qzx", "! \n"),
]


@pytest.mark.parametrize(
    "size",
    [pytest.param(1 << 12, id="4K"), pytest.param(1 << 20, id="1M", marks=pytest.mark.nightly)],
)
@pytest.mark.parametrize("name", ["gpt2", "cl100k_base"])
def test_64_repeated_units(name, size, ours, openai):
    assert len(REPEATED) == 64
    texts = [(unit * (size // len(unit.encode()) + 1))[:size] for unit in REPEATED]
    assert_equal_to_openai(ours(name), openai(name), texts)


@pytest.mark.parametrize("name", OPENAI)
def test_long_random_words(name, ours, openai):
    draw = random.Random(3)
    alphabets = ["ab", "etaoin", "abcdefghijklmnopqrstuvwxyz", "0-", " ", "日本語中文字", "éèêaß", "=-"]
    lengths = [15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 511, 512, 513, 4096, 5000]
    texts = ["".join(draw.choices(a, k=n)) for a in alphabets for n in lengths for _ in range(4)]
    assert_equal_to_openai(ours(name), openai(name), texts)


def test_random_small_vocabularies_as_tiktoken():
    """Vocabularies that no trainer made: unreachable tokens, tokens reached by way of higher ones, holes."""
    draw = random.Random(11)
    for _ in range(150):
        ranks = {bytes([byte]): byte for byte in range(256)}
        for rank in draw.sample(range(256, 400), 40):
            ranks.setdefault(bytes(draw.choices(b"abc ", k=draw.randint(2, 6))), rank)
        model = TiktokenModel(PATTERNS["gpt2"], ranks, {"<|end|>": 1000})
        encoding = tiktoken.Encoding(
            "random", pat_str=model.pattern, mergeable_ranks=ranks, special_tokens={"<|end|>": 1000}
        )
        texts = ["".join(draw.choices("abc ", k=draw.randint(1, 200))) for _ in range(40)]
        assert_equal_to_openai(accelerate(model), encoding, texts)


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_random_merge_lists_as_tokenizers(ignore_merges):
    """Merges in any order, several that make one token, and tokens that no merge makes."""
    draw = random.Random(12)
    for _ in range(60):
        tokens = [*"abc"]
        merges: list[tuple[str, str]] = []
        for _ in range(25):
            pair = draw.choice(tokens), draw.choice(tokens)
            if pair not in merges and len("".join(pair)) < 12:
                merges.append(pair)
                tokens.append("".join(pair))
        draw.shuffle(merges)
        vocab = {mapped(bytes([byte])): i for i, byte in enumerate(BYTE_ORDER)}
        for token in [*tokens, "cab", "bbbb"]:
            vocab.setdefault(token, len(vocab))
        content = json.loads(_PLAIN) | {
            "model": {"type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": ignore_merges}
        }
        encoded = json.dumps(content)
        tokenizer = accelerate(TokenizerJson(encoded.encode()))
        assert isinstance(tokenizer, BpeTokenizer)
        texts = ["".join(draw.choices("abc", k=draw.randint(1, 90))) for _ in range(60)]
        assert_equal_to_tokenizers(tokenizer, tokenizers.Tokenizer.from_str(encoded), texts)


_PLAIN = json.dumps(
    {"version": "1.0", "added_tokens": [], "pre_tokenizer": BYTE_LEVEL, "decoder": BYTE_LEVEL}
)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*OPENAI, "gpt-neox-olmo"])
@pytest.mark.parametrize(
    "count", [pytest.param(500, id="500"), pytest.param(2_000, id="2k", marks=pytest.mark.nightly)]
)
def test_every_split_position_of_a_stream(name, count, ours, monkeypatch):
    monkeypatch.setattr("tokpack_bpe.tokenizer._STREAM_BYTES", 1)
    tokenizer = ours(name)
    for text in documents(count, seed=5, seeds=seeds()):
        expected = tokenizer.encode_texts([text]).tokens
        places = len(text) + 1 if count > 500 else min(len(text) + 1, 120)
        for at in range(places):
            parts = tokenizer.encode_stream([text[:at], text[at:]])
            assert np.array_equal(np.concatenate(list(parts)), expected), (ascii(text), at)


@pytest.mark.parametrize("special", ["text", "parse"])
def test_stream_of_one_large_document(special, ours):
    text = "".join(shared_texts("tinyshakespeare")) + "<|endoftext|>" + "".join(shared_texts("fastapi_zh"))
    for name in ("gpt2", "o200k_base", "gpt-neox-olmo"):
        parts = [text[i : i + 10_007] for i in range(0, len(text), 10_007)]
        tokens = list(ours(name).encode_stream(parts, special=special))
        whole = ours(name).encode_batch(TextBatch.from_texts([text]), special=special)
        assert len(tokens) > 3
        assert np.array_equal(np.concatenate(tokens), whole.tokens)
