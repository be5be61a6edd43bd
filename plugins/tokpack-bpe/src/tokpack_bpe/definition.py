"""What decides the ids of a byte-level BPE tokenizer, whatever file it was read from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tokpack.errors import DamagedError
from tokpack_bpe import _native

__all__ = ["AddedToken", "Definition", "SpecialIds", "bytes_of_spelling", "flat", "is_spelled"]

#: Names by which BOS, EOS and PAD are known where no settings name them.
_WELL_KNOWN: Mapping[str, tuple[str, ...]] = {
    "bos": ("<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>"),
    "eos": ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<|eos|>"),
    "pad": ("<pad>", "<|pad|>", "<|padding|>", "[PAD]", "<|finetune_right_pad_id|>"),
}


class AddedToken(NamedTuple):
    """A token that is found in the text itself, before the text is split."""

    content: str
    token_id: int
    special: bool = True  # found only where special tokens are parsed
    normalized: bool = False  # looked for after normalization instead of before


class SpecialIds(NamedTuple):
    """Which tokens begin a document, end it and fill rows."""

    bos_id: int | None = None
    eos_id: int | None = None
    pad_id: int | None = None

    @classmethod
    def find(cls, tokens: Mapping[str, int], settings: Mapping[str, Any]) -> SpecialIds:
        """Take those that the settings name (``eos_token``, …), else those with well-known names."""

        def find(role: str) -> int | None:
            named = settings.get(f"{role}_token", "")
            if isinstance(named, dict):
                named = named.get("content", "")
            if named is None:
                return None  # said on purpose: there is none
            if isinstance(named, str) and named in tokens:
                return tokens[named]
            return next((tokens[name] for name in _WELL_KNOWN[role] if name in tokens), None)

        return cls(find("bos"), find("eos"), find("pad"))


_NO_SPECIAL_IDS = SpecialIds()


@dataclass(frozen=True)
class Definition:
    """A tokenizer as the engine takes it.

    ``merges`` is uint32 of shape (merges, 2), pairs of ids in the order in which they apply; without it the
    ids of ``tokens`` are ranks, as tiktoken has them. ``files`` are what it was read from, by name: written
    to a folder, they open as an equal tokenizer.
    """

    origin: str  # for messages
    pattern: str
    tokens: Mapping[bytes, int]  # what merging works on
    merges: NDArray[np.uint32] | None
    added: tuple[AddedToken, ...]
    files: Mapping[str, bytes] = field(repr=False)
    whole_words: bool = True  # a pre-token that is a token is not merged
    drop_missing: bool = False  # bytes that are no token are left out, else refused
    nfc: bool = False
    special_ids: SpecialIds = _NO_SPECIAL_IDS
    other_tokens: Mapping[int, bytes] = field(default_factory=dict)  # known, but never the result of encoding

    @property
    def special_tokens(self) -> dict[str, int]:
        """Special tokens and their ids."""
        return {token.content: token.token_id for token in self.added if token.special}

    def bytes_by_id(self) -> dict[int, bytes]:
        """Return the bytes of every id, added tokens included."""
        known = {token_id: token for token, token_id in self.tokens.items()} | dict(self.other_tokens)
        return known | {token.token_id: bytes_of_spelling(token.content) for token in self.added}

    def digest(self, rules: NDArray[np.uint32], whole_words: Sequence[bytes]) -> str:
        """Return a SHA-256 (hex) that is equal for every file layout of this tokenizer.

        ``rules`` (rules, 3) and ``whole_words`` are the engine's own view of how tokens merge: ranks and a
        list of merges that come to the same are the same.
        """
        settings = {
            "pattern": self.pattern,
            "nfc": self.nfc,
            "added": sorted([*token] for token in self.added),
            "special_ids": list(self.special_ids),
        }
        digest = hashlib.sha256(b"tokpack-bpe 1\n")
        digest.update(json.dumps(settings, sort_keys=True, ensure_ascii=True).encode())
        for token_id, token in sorted(self.bytes_by_id().items()):
            digest.update(b"%d %d " % (token_id, len(token)) + token)
        digest.update(np.ascontiguousarray(rules, dtype="<u4").tobytes())
        for word in sorted(whole_words):
            digest.update(b"%d " % len(word) + word)
        return digest.hexdigest()

    def check(self) -> None:
        """Refuse what no engine can use.

        Raises:
            DamagedError: an id is out of range, or an added token is empty.
        """
        for token_id, token in self.bytes_by_id().items():
            if not 0 <= token_id < 2**31:
                raise DamagedError(
                    f"{self.origin} gives the token {token!r} the id {token_id:,}; "
                    "ids lie between 0 and 2**31"
                )
        for added in self.added:
            if not added.content:
                raise DamagedError(f"{self.origin} has an empty added token {added.token_id}; remove it")


def flat(documents: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Lay byte strings back to back; returns data and offsets."""
    offsets = np.zeros(len(documents) + 1, dtype=np.int64)
    np.cumsum([len(document) for document in documents], out=offsets[1:])
    return np.frombuffer(b"".join(documents), dtype=np.uint8), offsets


@cache
def _byte_of_character() -> Mapping[str, int]:
    """Return the bytes by the characters that spell them in vocab.json and tokenizer.json."""
    printing = 188  # so many bytes stand for themselves; the others are U+0100, U+0101, …
    return {
        chr(byte if position < printing else 256 + position - printing): byte
        for position, byte in enumerate(_native.byte_order())
    }


def bytes_of_spelling(token: str) -> bytes:
    """Return the bytes that ``token`` spells, one character per byte; its UTF-8 if it is not spelled so.

    That is also how the decoder of the tokenizers library takes tokens.
    """
    table = _byte_of_character()
    try:
        return bytes([table[character] for character in token])
    except KeyError:
        return token.encode()


def is_spelled(token: str) -> bool:
    """Say whether every character of ``token`` spells a byte."""
    return all(map(_byte_of_character().__contains__, token))
