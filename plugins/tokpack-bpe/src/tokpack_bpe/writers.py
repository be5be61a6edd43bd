"""A vocabulary in the files of the field: Hugging Face's, GPT-2's and tiktoken's, all with the same ids."""

from __future__ import annotations

import base64
import json
from typing import Any

from tokpack_bpe.patterns import PATTERNS, regex_for_tokenizers
from tokpack_bpe.vocabulary import Vocabulary, mapped

__all__ = [
    "files_of",
    "merges_txt",
    "tiktoken_ranks",
    "tiktoken_settings",
    "tokenizer_json",
    "vocab_json",
]


def files_of(vocabulary: Vocabulary) -> dict[str, bytes]:
    """Return every file by its name; equal vocabularies give equal bytes."""
    return {
        "tokenizer.json": tokenizer_json(vocabulary),
        "vocab.json": vocab_json(vocabulary),
        "merges.txt": merges_txt(vocabulary),
        "ranks.tiktoken": tiktoken_ranks(vocabulary),
        "tiktoken.json": tiktoken_settings(vocabulary),
    }


def tokenizer_json(vocabulary: Vocabulary) -> bytes:
    """Return Hugging Face's ``tokenizer.json``: opens in `tokenizers` and `transformers` with equal ids."""
    spelled = [mapped(token) for token in vocabulary.tokens]
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id,
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for name, token_id in vocabulary.special_tokens.items()
        ],
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(vocabulary.pattern),
        "post_processor": None,
        "decoder": _byte_level(use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: token_id for token_id, token in enumerate(spelled)},
            "merges": [[spelled[left], spelled[right]] for left, right in vocabulary.merges.tolist()],
        },
    }
    return json.dumps(content, ensure_ascii=False, indent=1).encode() + b"\n"


def vocab_json(vocabulary: Vocabulary) -> bytes:
    """Return GPT-2's ``vocab.json``: every token, special ones included, with its id."""
    ids = {mapped(token): token_id for token_id, token in enumerate(vocabulary.tokens)}
    return json.dumps(ids | vocabulary.special_tokens).encode() + b"\n"


def merges_txt(vocabulary: Vocabulary) -> bytes:
    """Return GPT-2's ``merges.txt``: one merge per line under a version line.

    The loader of GPT-2 drops the first line unseen, that of `tokenizers` by its first word, and that of CS336
    because it does not have two words: so it has three.
    """
    spelled = [mapped(token) for token in vocabulary.tokens]
    lines = [f"{spelled[left]} {spelled[right]}" for left, right in vocabulary.merges.tolist()]
    return "".join(f"{line}\n" for line in ["#version: 0.2 (tokpack)", *lines]).encode()


def tiktoken_ranks(vocabulary: Vocabulary) -> bytes:
    """Return a ranks file as `tiktoken.load.load_tiktoken_bpe` reads it, without special tokens."""
    ranks = enumerate(vocabulary.tokens)
    return b"".join(base64.b64encode(token) + f" {rank}\n".encode() for rank, token in ranks)


def tiktoken_settings(vocabulary: Vocabulary) -> bytes:
    """Return what a ranks file does not say, as JSON: the other arguments of `tiktoken.Encoding`."""
    settings = {"pattern": PATTERNS[vocabulary.pattern], "special_tokens": vocabulary.special_tokens}
    return json.dumps(settings, ensure_ascii=False, indent=1).encode() + b"\n"


def _pre_tokenizer(pattern: str) -> dict[str, Any]:
    if pattern == "gpt2":
        return _byte_level(use_regex=True)
    split = {
        "type": "Split",
        "pattern": {"Regex": regex_for_tokenizers(pattern)},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"type": "Sequence", "pretokenizers": [split, _byte_level(use_regex=False)]}


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}
