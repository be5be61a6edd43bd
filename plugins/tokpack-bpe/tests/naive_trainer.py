"""The training rule, word for word and slow: what the native trainer is compared with."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

from tokpack_bpe import _native

#: Byte -> id below 256.
ID_OF_BYTE = {byte: token_id for token_id, byte in enumerate(_native.byte_order())}


def naive_merges(
    words: Mapping[bytes, int],
    max_merges: int,
    *,
    tie_rule: str = "bytes",
    min_frequency: int = 1,
    max_token_length: int | None = None,
) -> list[tuple[bytes, bytes]]:
    spelled = {word: [bytes([byte]) for byte in word] for word in words}
    ids = {bytes([byte]): token_id for byte, token_id in ID_OF_BYTE.items()}
    merges: list[tuple[bytes, bytes]] = []
    while len(merges) < max_merges:
        counts: Counter[tuple[bytes, bytes]] = Counter()
        for word, symbols in spelled.items():
            for pair in itertools.pairwise(symbols):
                if max_token_length is None or len(pair[0] + pair[1]) <= max_token_length:
                    counts[pair] += words[word]
        if not counts or (most := max(counts.values())) < max(1, min_frequency):
            break
        tied = [pair for pair, count in counts.items() if count == most]
        best = max(tied) if tie_rule == "bytes" else min(tied, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        ids[best[0] + best[1]] = 256 + len(merges)
        merges.append(best)
        spelled = {word: joined(symbols, best) for word, symbols in spelled.items()}
    return merges


def joined(symbols: Sequence[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    out: list[bytes] = []
    at = 0
    while at < len(symbols):
        if tuple(symbols[at : at + 2]) == pair:
            out.append(pair[0] + pair[1])
            at += 2
        else:
            out.append(symbols[at])
            at += 1
    return out
