"""The bytes behind each token, read from the definition of vocabulary and decoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

__all__ = ["TokenBytes", "is_lossless", "token_bytes"]

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"


class TokenBytes(NamedTuple):
    """``by_id[token_id]`` is what a token stands for, None where no token has that id.

    ``joined`` makes bytes of several; None where the library's decoder does more than joining.
    """

    by_id: list[bytes | None]
    joined: Callable[[list[bytes]], bytes] | None


def token_bytes(
    definition: Mapping[str, Any], vocab: Mapping[str, int], added: Mapping[int, str], size: int
) -> TokenBytes:
    """Return the bytes of every token, and how they join."""
    kinds = _decoder_kinds(definition.get("decoder"))
    by_id: list[bytes | None] = [None] * size
    spell: Callable[[str], bytes] = str.encode
    joined: Callable[[list[bytes]], bytes] | None = None
    if kinds == ["ByteLevel"]:
        alphabet = {char: byte for byte, char in enumerate(byte_alphabet())}
        spell, joined = partial(_byte_level, alphabet=alphabet), b"".join
    elif kinds[:3] == ["Replace", "ByteFallback", "Fuse"] and kinds[3:] in ([], ["Strip"]):
        spell, joined = _sentence_piece, _strip_one if kinds[3:] else b"".join
    for token, token_id in vocab.items():
        by_id[token_id] = spell(token)
    for token_id, token in added.items():
        by_id[token_id] = token.encode()
    return TokenBytes(by_id, joined)


def is_lossless(definition: Mapping[str, Any]) -> bool:
    """Say whether decoding gives back every text byte for byte: byte-level BPE that changes nothing."""
    model = definition["model"]
    pre_tokenizers = list(_flatten(definition.get("pre_tokenizer"), "pretokenizers"))
    levels = [step for step in pre_tokenizers if step.get("type") == "ByteLevel"]
    return (
        definition.get("normalizer") is None
        and model.get("type", "BPE") == "BPE"
        and not model.get("continuing_subword_prefix")
        and not model.get("end_of_word_suffix")
        and _decoder_kinds(definition.get("decoder")) == ["ByteLevel"]
        and len(levels) == 1
        and not levels[0].get("add_prefix_space", True)
        and all(step is levels[0] or step.get("behavior") == "Isolated" for step in pre_tokenizers)
        and all(char in model["vocab"] for char in byte_alphabet())
        and not any(
            token.get("lstrip") or token.get("rstrip") for token in definition.get("added_tokens") or []
        )
    )


def byte_alphabet() -> str:
    """Return the 256 characters by which byte-level vocabularies write bytes.

    GPT-2's table: printable Latin-1 stands for itself, the other bytes for U+0100 and what follows.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = {byte: 0x100 + rank for rank, byte in enumerate(sorted(set(range(256)) - set(printable)))}
    return "".join(chr(others.get(byte, byte)) for byte in range(256))


def _byte_level(token: str, alphabet: Mapping[str, int]) -> bytes:
    # The library's own rule: a token with any other character stands for its own text.
    if all(char in alphabet for char in token):
        return bytes(alphabet[char] for char in token)
    return token.encode()


def _sentence_piece(token: str) -> bytes:
    if found := _BYTE_PIECE.fullmatch(token):
        return bytes([int(found[1], 16)])
    return token.replace(_SPACE, " ").encode()


def _strip_one(parts: list[bytes]) -> bytes:
    return b"".join(parts).removeprefix(b" ")


def _decoder_kinds(decoder: Any) -> list[str]:
    """Return the decoder's steps by name; one that is not of the plain kind as ``other``."""
    return [_kind(step) for step in _flatten(decoder, "decoders")]


def _kind(step: Mapping[str, Any]) -> str:
    kind = str(step.get("type"))
    if kind == "Replace" and (step.get("pattern"), step.get("content")) != ({"String": _SPACE}, " "):
        return "other"
    if kind == "Strip" and (step.get("content"), step.get("start"), step.get("stop")) != (" ", 1, 0):
        return "other"
    return kind


def _flatten(part: Any, inner: str) -> list[dict[str, Any]]:
    if not isinstance(part, dict):
        return []
    if isinstance(part.get(inner), list):
        return [step for item in part[inner] for step in _flatten(item, inner)]
    return [part]
