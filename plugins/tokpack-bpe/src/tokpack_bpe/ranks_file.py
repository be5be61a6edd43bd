"""tiktoken's files: ranks, one token per line, and a JSON file beside them that says how text is split."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from tokpack.errors import DamagedError, UnsupportedError, UsageError
from tokpack_bpe.definition import AddedToken, Definition, SpecialIds
from tokpack_bpe.json_file import read_bytes, read_object
from tokpack_bpe.patterns import PATTERNS, pattern_of_tiktoken

__all__ = ["RANKS", "SETTINGS", "define_ranks", "read_ranks_file"]

#: Names of both files in a folder.
RANKS, SETTINGS = "ranks.tiktoken", "tiktoken.json"

_CL100K_SPECIAL = {
    "<|endoftext|>": 100257,
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    "<|endofprompt|>": 100276,
}
#: The published files, by their SHA-256: these need no JSON file beside them.
_PUBLISHED: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930": ("gpt2", {"<|endoftext|>": 50256}),
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": ("cl100k", _CL100K_SPECIAL),
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": (
        "o200k",
        {"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    ),
}


def read_ranks_file(path: Path) -> Definition:
    """Read a ranks file; how it splits text stands in the JSON file beside it, if it is no published one.

    Raises:
        UsageError: there is no such JSON file.
        UnsupportedError: the engine does not know the pattern.
        DamagedError, StorageError: a file is not what it must be, or cannot be read.
    """
    content = read_bytes(path)
    beside = path.with_name(SETTINGS) if path.name == RANKS else path.with_suffix(".json")
    if beside.is_file():
        settings = read_object(beside)
    elif (published := _PUBLISHED.get(hashlib.sha256(content).hexdigest())) is not None:
        settings = {"pattern": PATTERNS[published[0]], "special_tokens": dict(published[1])}
    else:
        raise UsageError(
            f"{path} does not say how text is split; write {beside.name} beside it: "
            '{"pattern": "...", "special_tokens": {"<|endoftext|>": ...}}'
        )
    regex, special_tokens = settings.get("pattern"), settings.get("special_tokens", {})
    if not isinstance(regex, str) or not isinstance(special_tokens, dict):
        raise DamagedError(f'{beside} needs "pattern", a string, and "special_tokens", an object')
    return define_ranks(
        _parse_ranks(content, path),
        regex=PATTERNS.get(regex, regex),
        special_tokens=special_tokens,
        special_ids=SpecialIds.find(special_tokens, settings),
        origin=str(path),
        files={RANKS: content},
    )


def define_ranks(
    ranks: Mapping[bytes, int],
    *,
    regex: str,
    special_tokens: Mapping[str, int],
    special_ids: SpecialIds | None = None,
    origin: str,
    files: Mapping[str, bytes] | None = None,
) -> Definition:
    """Define a tokenizer as tiktoken describes one; without ``files`` they are made from ``ranks``.

    Raises:
        UnsupportedError: the engine does not know the pattern.
        DamagedError: an id is out of range or belongs to two tokens.
    """
    pattern = pattern_of_tiktoken(regex)
    if pattern is None:
        raise UnsupportedError(f"{origin} splits text by a pattern that this engine does not know: {regex}")
    special_ids = special_ids or SpecialIds.find(special_tokens, {})
    names = ("bos_token", "eos_token", "pad_token")
    by_id = {token_id: token for token, token_id in special_tokens.items()}
    named = {name: by_id[i] for name, i in zip(names, special_ids, strict=True) if i is not None}
    settings = {"pattern": regex, "special_tokens": dict(special_tokens)} | named
    if files is None:
        files = {RANKS: b"".join(b"%s %d\n" % (base64.b64encode(t), i) for t, i in ranks.items())}
    definition = Definition(
        origin=origin,
        pattern=pattern,
        tokens=ranks,
        merges=None,
        added=tuple(AddedToken(token, token_id) for token, token_id in special_tokens.items()),
        files={**files, SETTINGS: json.dumps(settings, indent=2, ensure_ascii=False).encode() + b"\n"},
        special_ids=special_ids,
    )
    definition.check()
    return definition


def _parse_ranks(content: bytes, path: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line:
            continue
        try:
            spelled, rank = line.split()
            token = base64.b64decode(spelled, validate=True)
            token_id = int(rank)
        except (ValueError, binascii.Error):
            raise DamagedError(
                f"line {number:,} of {path} is not a base64 token and its rank; is the file whole?"
            ) from None
        if token in ranks:
            raise DamagedError(f"line {number:,} of {path} gives the token {token!r} a second rank")
        ranks[token] = token_id
    return ranks
