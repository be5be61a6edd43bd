"""Tokenizers to compare with."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import tiktoken

from tokpack.protocols import TokenizerOptions
from tokpack.testing import shared_data
from tokpack_bpe.opening import open_tokenizer
from tokpack_bpe.patterns import PATTERNS
from tokpack_bpe.tokenizer import BpeTokenizer
from tokpack_bpe.vocabulary import BYTE_ORDER, mapped

FILES = {
    "gpt2": "gpt2/gpt2.tiktoken",
    "cl100k_base": "cl100k_base/cl100k_base.tiktoken",
    "o200k_base": "o200k_base/o200k_base.tiktoken",
    "gpt2-hf": "gpt2/tokenizer.json",
    "gpt-neox-olmo": "gpt-neox-olmo/tokenizer.json",
    "torchtitan_2k": "torchtitan_2k/tokenizer.json",
}


# Modules of tests are not importable under pytest's importlib mode; this makes tests/generators.py so.
_spec = importlib.util.spec_from_file_location(
    "tokpack_bpe_generators", Path(__file__).with_name("generators.py")
)
assert _spec is not None
assert _spec.loader is not None
sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules[_spec.name])


@cache
def _ours(name: str) -> BpeTokenizer:
    return open_tokenizer(str(shared_data() / "tokenizers" / FILES[name]), TokenizerOptions())


@cache
def _tiktoken(name: str) -> tiktoken.Encoding:
    definition = _ours(name).definition
    return tiktoken.Encoding(
        name,
        pat_str=PATTERNS[definition.pattern],
        mergeable_ranks=dict(definition.tokens),
        special_tokens=definition.special_tokens,
    )


@pytest.fixture(scope="session")
def ours() -> Callable[[str], BpeTokenizer]:
    """Open one of the shared tokenizers."""
    return _ours


@pytest.fixture(scope="session")
def openai() -> Callable[[str], tiktoken.Encoding]:
    """Open the same with tiktoken, from the same file."""
    return _tiktoken


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> BpeTokenizer:
    """A tokenizer that needs no shared data: a few merges, ids out of order, holes between them."""
    merges = ["a b", "ab c", "t h", "th e", "Ġ the", "Ġ a", "1 2", "12 3", "Ġ Ġ", "ĠĠ ĠĠ", "Ã ©"]
    vocab = {mapped(bytes([byte])): 500 - i for i, byte in enumerate(BYTE_ORDER)}
    for number, merge in enumerate(merges):
        vocab[merge.replace(" ", "")] = 2 * number
    vocab["<|endoftext|>"] = 1001
    folder = tmp_path_factory.mktemp("small")
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return open_tokenizer(str(folder), TokenizerOptions())
