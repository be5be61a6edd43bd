"""Write ``cpp/unicode_classes.inc``: the class of every code point, as the reference libraries see it.

    python scripts/unicode_classes.py [--check]

Python's own ``unicodedata`` and the ``regex`` package follow other Unicode versions than tiktoken and
tokenizers, so the classes are not read from a standard but probed: each library is asked to match a
property against all 1,112,064 code points. The script stops if the two libraries disagree.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import tiktoken
from numpy.typing import NDArray
from tokenizers import Regex, pre_tokenizers

OUTPUT = Path(__file__).parent.parent / "cpp" / "unicode_classes.inc"
PAGE = 128
CODE_POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)

#: Names and numbers are those of `Class` in unicode.hpp; a code point in none of them is `other` (0).
CLASSES = {
    "upper": (1, r"[\p{Lu}\p{Lt}]"),
    "lower": (2, r"\p{Ll}"),
    "letter": (3, r"[\p{Lm}\p{Lo}]"),
    "mark": (4, r"\p{M}"),
    "number": (5, r"\p{N}"),
    "punctuation": (6, r"\p{P}"),
    "symbol": (7, r"\p{S}"),
    "space": (8, r"\s"),
}


def every_character() -> str:
    """Return all code points that text can hold, in order."""
    return "".join(chr(point) for point in range(CODE_POINTS) if point not in SURROGATES)


def members(text: str) -> NDArray[np.bool_]:
    """Return which code points occur in ``text``, bool of shape (0x110000,)."""
    found = np.zeros(CODE_POINTS, dtype=bool)
    found[np.frombuffer(text.encode("utf-32-le"), dtype="<u4")] = True
    return found


def probe_tiktoken(pattern: str, text: str) -> NDArray[np.bool_]:
    """Ask tiktoken: characters outside every match are dropped by its encoder."""
    single_bytes = {bytes([value]): value for value in range(256)}
    encoding = tiktoken.Encoding("probe", pat_str=pattern, mergeable_ranks=single_bytes, special_tokens={})
    return members(bytes(encoding.encode_ordinary(text)).decode())


def probe_tokenizers(pattern: str, text: str) -> NDArray[np.bool_]:
    """Ask tokenizers: what does not match is removed."""
    splitter = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    return members("".join(piece for piece, _ in splitter.pre_tokenize_str(text)))


def classify() -> NDArray[np.uint8]:
    """Return the class of every code point, uint8 of shape (0x110000,)."""
    text = every_character()
    classes = np.zeros(CODE_POINTS, dtype=np.uint8)
    for name, (number, pattern) in CLASSES.items():
        found = probe_tiktoken(pattern, text)
        differing = np.flatnonzero(found != probe_tokenizers(pattern, text))
        if differing.size:
            sys.exit(
                f"{name}: tiktoken and tokenizers differ on {differing.size} code points, "
                f"first U+{differing[0]:04X}"
            )
        if (taken := np.flatnonzero(found & (classes != 0))).size:
            sys.exit(f"{name}: U+{taken[0]:04X} is in another class already")
        classes[found] = number
    return classes


def render(classes: NDArray[np.uint8]) -> str:
    """Lay the classes out as two levels: a page number per 128 code points, and the distinct pages."""
    pages, index = np.unique(classes.reshape(-1, PAGE), axis=0, return_inverse=True)
    lines = [
        "// Written by scripts/unicode_classes.py from what tiktoken and tokenizers match; do not edit.",
        f"inline constexpr std::array<std::uint8_t, {index.size}> kClassPage = {{",
        *rows(index.reshape(-1)),
        "};",
        f"inline constexpr std::array<std::uint8_t, {pages.size}> kPageClasses = {{",
        *rows(pages.reshape(-1)),
        "};",
    ]
    return "\n".join(lines) + "\n"


def rows(values: NDArray[np.integer]) -> list[str]:
    """Print numbers for C++, 64 on a line."""
    return ["".join(f"{value}," for value in values[i : i + 64]) for i in range(0, values.size, 64)]


def main() -> None:
    """Write the tables, or compare them with what stands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    table = render(classify())
    if not parser.parse_args().check:
        OUTPUT.write_text(table)
    elif OUTPUT.read_text() != table:
        sys.exit(f"{OUTPUT} does not match the installed tiktoken and tokenizers; run this without --check")


if __name__ == "__main__":
    main()
