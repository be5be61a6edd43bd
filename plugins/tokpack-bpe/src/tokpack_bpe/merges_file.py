"""Vocabularies with a list of merges: what GPT-2's two files and a tokenizer.json have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokpack.errors import DamagedError
from tokpack_bpe.definition import AddedToken, Definition, SpecialIds, bytes_of_spelling, is_spelled
from tokpack_bpe.json_file import read_bytes, read_object

__all__ = ["MERGES", "VOCAB", "merge_ids", "read_gpt2_files", "split_vocab"]

VOCAB, MERGES = "vocab.json", "merges.txt"


def read_gpt2_files(vocab_path: Path, merges_path: Path) -> Definition:
    """Read ``vocab.json`` and ``merges.txt`` as GPT-2 has them; text is split as GPT-2 splits it.

    Tokens that no merge makes, such as ``<|endoftext|>``, are special.

    Raises:
        DamagedError, StorageError: a file is not what it must be, or cannot be read.
    """
    origin = str(vocab_path)
    vocab = read_object(vocab_path)
    merges = read_bytes(merges_path)
    tokens, others = split_vocab(vocab, origin)
    pairs = merge_ids(_merge_lines(merges, merges_path), vocab, str(merges_path))
    by_id = {token_id: token for token, token_id in tokens.items()}
    made = {by_id[a] + by_id[b] for a, b in pairs.tolist()}
    special = {
        token: token_id
        for token, token_id in vocab.items()
        if token_id in others or (len(by_id[token_id]) > 1 and by_id[token_id] not in made)
    }
    definition = Definition(
        origin=origin,
        pattern="gpt2",
        tokens=tokens,
        merges=pairs,
        added=tuple(AddedToken(token, token_id) for token, token_id in special.items()),
        files={VOCAB: read_bytes(vocab_path), MERGES: merges},
        whole_words=False,
        special_ids=SpecialIds.find(special, {}),
    )
    definition.check()
    return definition


def split_vocab(vocab: Mapping[Any, Any], origin: str) -> tuple[dict[bytes, int], dict[int, bytes]]:
    """Divide a vocabulary into tokens by their bytes, and bytes by id of what is not spelled in bytes.

    Raises:
        DamagedError: a token is no string or empty, an id is no integer, or an id occurs twice.
    """
    tokens: dict[bytes, int] = {}
    others: dict[int, bytes] = {}
    owners: dict[int, str] = {}
    for token, token_id in vocab.items():
        if not isinstance(token, str) or not token or not isinstance(token_id, int):
            raise DamagedError(
                f"{origin} has the entry {token!r}: {token_id!r}, which is no token and its id"
            )
        if token_id in owners:
            raise DamagedError(f"{origin} gives the id {token_id} to {owners[token_id]!r} and to {token!r}")
        owners[token_id] = token
        if is_spelled(token):
            tokens[bytes_of_spelling(token)] = token_id
        else:
            others[token_id] = token.encode()
    return tokens, others


def merge_ids(merges: Iterable[tuple[str, str]], vocab: Mapping[str, int], origin: str) -> NDArray[np.uint32]:
    """Return merges as pairs of ids, uint32 of shape (merges, 2).

    Raises:
        DamagedError: a merge joins or makes what is no token, or is listed twice.
    """
    seen: dict[tuple[str, str], int] = {}
    for number, (left, right) in enumerate(merges, start=1):
        for token in (left, right, left + right):
            if token not in vocab:
                raise DamagedError(
                    f"merge {number:,} of {origin} joins {left!r} and {right!r}, but {token!r} is not in the "
                    "vocabulary; do both files belong together, and are they whole?"
                )
        if (first := seen.setdefault((left, right), number)) != number:
            raise DamagedError(
                f"merge {number:,} of {origin}, {left!r} and {right!r}, is merge {first:,} again"
            )
    # A merge of something that is not spelled in bytes can never apply.
    usable = [(vocab[a], vocab[b]) for a, b in seen if is_spelled(a) and is_spelled(b)]
    return np.fromiter(chain.from_iterable(usable), dtype=np.uint32, count=2 * len(usable)).reshape(-1, 2)


def _merge_lines(content: bytes, path: Path) -> Iterator[tuple[str, str]]:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path} is not UTF-8 ({error}); is it the right file?") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        parts = line.rstrip("\r").split(" ")
        if len(parts) != 2 or not all(parts):
            raise DamagedError(
                f"line {number:,} of {path} is not two tokens with a space between; is it whole?"
            )
        yield parts[0], parts[1]
