"""Write ``cpp/normal_form.inc``: what normalization form C does, as the tokenizers library does it.

    python scripts/normal_form.py [--check]

The library follows a Unicode version of its own, so nothing is taken from Python's ``unicodedata``: the
decomposition of every code point and the order of combining marks are probed, and compositions follow.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path

from tokenizers import normalizers

OUTPUT = Path(__file__).parent.parent / "cpp" / "normal_form.inc"
HANGUL = range(0xAC00, 0xAC00 + 11172)  # composed and decomposed by arithmetic

NFC, NFD = normalizers.NFC().normalize_str, normalizers.NFD().normalize_str


def code_points() -> list[str]:
    """Return every character that text can hold."""
    return [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]


def combining_classes(characters: list[str]) -> dict[str, int]:
    """Return a number for every combining mark: marks are sorted by it, and equal ones keep their order.

    The numbers are ranks of the classes, found by asking which of two marks is put first.
    """
    # A mark is moved before the mark of a higher class: U+0345 has the highest, U+0334 the lowest of all.
    lowest, highest = "\u0334", "\u0345"
    marks = [
        mark
        for mark in characters
        if NFD(mark) == mark
        and (NFD(f"a{highest}{mark}") == f"a{mark}{highest}" or NFD(f"a{mark}{lowest}") == f"a{lowest}{mark}")
    ]
    marks += [mark for mark in (lowest, highest) if mark not in marks]
    classes: list[list[str]] = []  # one list of equal marks per class, in ascending order
    for mark in marks:
        low, high = 0, len(classes)
        while low < high:
            middle = (low + high) // 2
            other = classes[middle][0]
            if NFD(f"a{other}{mark}") == f"a{mark}{other}":
                high = middle
            elif NFD(f"a{mark}{other}") == f"a{other}{mark}":
                low = middle + 1
            else:
                classes[middle].append(mark)
                break
        else:
            classes.insert(low, [mark])
    return {mark: number for number, group in enumerate(classes, start=1) for mark in group}


def decompositions(characters: list[str]) -> dict[str, str]:
    """Return the full decomposition of every character that has one, Hangul left out."""
    return {c: NFD(c) for c in characters if ord(c) not in HANGUL and NFD(c) != c}


def compositions(decomposed: dict[str, str]) -> dict[tuple[str, str], str]:
    """Return which two characters compose: the last step back from each decomposition that is undone."""
    pairs = {}
    for composed, parts in decomposed.items():
        if NFC(composed) != composed:
            continue  # excluded from composition
        first = NFC(parts[:-1])
        if len(first) == 1 and NFC(first + parts[-1]) == composed:
            pairs[first, parts[-1]] = composed
        else:
            sys.exit(f"U+{ord(composed):04X} is not composed of one character and its last mark")
    return pairs


def render() -> str:
    """Lay out the three tables, each sorted by code point."""
    characters = code_points()
    decomposed = decompositions(characters)
    classes = combining_classes(characters)
    composed = compositions(decomposed)
    ends = [0]
    for parts in decomposed.values():
        ends.append(ends[-1] + len(parts))
    starts = zip(decomposed, pairwise(ends), strict=True)
    tables = {
        "Decomposition, kDecompositions": [f"{{{ord(c)},{a},{b - a}}}" for c, (a, b) in starts],
        "char32_t, kDecomposed": [str(ord(c)) for parts in decomposed.values() for c in parts],
        "CombiningClass, kCombiningClasses": [f"{{{ord(c)},{n}}}" for c, n in sorted(classes.items())],
        "Composition, kCompositions": [
            f"{{{ord(a)},{ord(b)},{ord(c)}}}" for (a, b), c in sorted(composed.items())
        ],
    }
    lines = ["// Written by scripts/normal_form.py from what tokenizers normalizes; do not edit."]
    for head, items in tables.items():
        kind, name = head.split(", ")
        lines += [f"inline constexpr std::array<{kind}, {len(items)}> {name} = {{{{"]
        lines += [",".join(items[i : i + 24]) + "," for i in range(0, len(items), 24)]
        lines += ["}};"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the tables, or compare them with what stands."""
    parser = argparse.ArgumentParser(description="write cpp/normal_form.inc")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    arguments = parser.parse_args()
    table = render()
    if not arguments.check:
        OUTPUT.write_text(table)
    elif OUTPUT.read_text() != table:
        sys.exit(f"{OUTPUT} does not match the installed tokenizers; run this without --check")


if __name__ == "__main__":
    main()
