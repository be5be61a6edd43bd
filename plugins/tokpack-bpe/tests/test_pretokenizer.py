"""The pre-tokenizer against the reference libraries' own splitting."""

from __future__ import annotations

import itertools
import random

import pytest
from tokenizers import Regex, pre_tokenizers
from tokpack_bpe_generators import documents

from tokpack_bpe import _native
from tokpack_bpe.patterns import PATTERNS

DEEPSEEK = (
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
)


def isolated(regex: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(regex), "isolated")


#: Everything but cl100k, whose possessive `{1,3}+` the engine behind `tokenizers` reads otherwise.
REFERENCES = {name: isolated(PATTERNS[name]) for name in ("gpt2", "llama3", "qwen2", "o200k")} | {
    "starcoder": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "deepseek": pre_tokenizers.Sequence(
        [isolated(r"\p{N}{1,3}"), isolated("[一-龥぀-ゟ゠-ヿ]+"), isolated(DEEPSEEK)]
    ),
    "cl100k": isolated(PATTERNS["cl100k"].replace(r"{1,3}+", r"{1,3}")),
}

#: One or two of every kind that a pattern distinguishes.
ALPHABET = [
    *"aAbZzsStTdDmMlLvVeErRéÉßſǅ日本ʰ\u0301\u0308'’019٣½ ",
    *" \n\r\t\u3000\u0085\xa0\x00\x01\x1c\u200b😀!.,/-_(){}#$+<=",
    *("'s", "'S", "'ll", "'LL", "'re", "'Re", "'ſ", "\r\n", "  ", "ぁ", "한", "ก", "ा"),
]


def reference_pieces(name: str, text: str) -> list[bytes]:
    # ByteLevel renames bytes, so pieces are taken by their offsets.
    return [text[a:b].encode() for _, (a, b) in REFERENCES[name].pre_tokenize_str(text)]


def native_pieces(name: str, text: str, *, scalar: bool) -> list[bytes]:
    utf8 = text.encode()
    starts = _native.pretoken_starts(utf8, name, scalar=scalar)
    return [utf8[a:b] for a, b in itertools.pairwise([*starts, len(utf8)])]


@pytest.mark.parametrize("name", REFERENCES)
def test_random_texts_split_as_the_reference_splits_them(name: str) -> None:
    draw = random.Random(name)
    for _ in range(4_000):
        text = "".join(draw.choices(ALPHABET, k=draw.randint(1, 14)))
        expected = reference_pieces(name, text)
        assert native_pieces(name, text, scalar=True) == expected, ascii(text)
        assert native_pieces(name, text, scalar=False) == expected, ascii(text)


@pytest.mark.parametrize("name", REFERENCES)
def test_empty_text_has_no_pretoken(name: str) -> None:
    assert _native.pretoken_starts(b"", name) == []


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize(
    "count", [pytest.param(4_000, id="4k"), pytest.param(400_000, id="400k", marks=pytest.mark.nightly)]
)
def test_bits_and_characters_give_the_same(name: str, count: int) -> None:
    """Texts of several blocks, so that everything that crosses from one to the next is met."""
    draw = random.Random(count)
    pieces: list[str] = []
    for piece in documents(count, seed=count):
        pieces.append(piece)
        if draw.random() < 0.4:
            text = "".join(pieces)
            assert native_pieces(name, text, scalar=False) == native_pieces(name, text, scalar=True), ascii(
                text
            )
            pieces.clear()
