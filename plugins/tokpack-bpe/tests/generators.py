"""Hard documents, generated: 24 kinds, most of them real text that was damaged."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

__all__ = ["SEEDS", "documents"]

SPACES = [chr(c) for c in (9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B))]
SPACES += [chr(c) for c in (0x2028, 0x2029, 0x202F, 0x205F, 0x3000)]
SPECIALS = ["<|endoftext|>", "<|endofprompt|>", "<|fim_prefix|>", "<|im_start|>", "|||IP_ADDRESS|||", "<s>"]

#: Real text for the mutating generator; tests add to it.
SEEDS = [
    "It's been a while, hasn't it? We're done; they'd've said I'll see YOU'LL 12345 times.\n\n  - item\n",
    "def f(a, b=None):\n    if a != b:\n        return {'k': [1, 2.5], \"s\": '''x'''}  # TODO(me)\n\n\n",
    "static inline int x(const char *p, size_t n) { return p[n-1] == '\\0' ? -1 : 0x7fff; }\r\n\t/* … */\r\n",
    '{"id": 1234567890, "tags": ["a", "b"], "text": "caf\\u00e9 \\n", "v": null, "f": -1.5e-10}',
    "Größe, naïve, Øresund, Łódź, İstanbul, ΑΒΓ αβγ, Привет мир, שלום עולם, مرحبا بالعالم",
    "我们的未来，日本語のテキスト。한국어 문장입니다! ภาษาไทยไม่มีเว้นวรรค हिन्दी वाक्य।",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪🇫🇷 ☃️ e\u0301a\u0323\u0307 ﬁ Ⅷ ½ ٣٤ १२ \u200b\ufeff\u00ad",
    "HTTPServerError getElementById snake_case_name SCREAMING_CASE iPhone's McDONALD'S 'tis ''quoted''",
]


def documents(count: int, seed: int, seeds: Sequence[str] = ()) -> Iterator[str]:
    """Yield ``count`` documents: 40 in 100 mutated real text, the others of all kinds alike."""
    draw = random.Random(seed)
    texts = [*SEEDS, *seeds]
    for _ in range(count):
        if draw.random() < 0.4:
            yield mutated(draw, draw.choice(texts))
        else:
            yield draw.choice(KINDS)(draw)


def mutated(draw: random.Random, text: str) -> str:
    start = draw.randrange(len(text))
    piece = list(text[start : start + draw.randint(1, 120)])
    for _ in range(draw.randint(0, 4)):
        at = draw.randrange(len(piece) + 1)
        match draw.randrange(4):
            case 0:
                piece.insert(at, any_character(draw))
            case 1:
                piece[at:at] = draw.choice(SPACES) * draw.randint(1, 4)
            case 2:
                del piece[at : at + draw.randint(1, 5)]
            case _:
                piece[at:at] = piece[max(0, at - draw.randint(1, 6)) : at]
    return "".join(piece)


def any_character(draw: random.Random) -> str:
    point = draw.choice(
        (draw.randrange(0x80), draw.randrange(0x800), draw.randrange(0x10000), draw.randrange(0x110000))
    )
    return chr(point) if not 0xD800 <= point < 0xE000 else "\ufffd"


def words(alphabet: Sequence[str], longest: int = 30) -> Callable[[random.Random], str]:
    """Make a generator of strings over ``alphabet``."""
    return lambda draw: "".join(draw.choices(alphabet, k=draw.randint(1, longest)))


def block(*ranges: tuple[int, int]) -> list[str]:
    return [chr(c) for a, b in ranges for c in range(a, b)]


def repeats(draw: random.Random) -> str:
    unit = words([*"abcABC019 .,-_=*#\n\t", "ab", "é", "日", "😀"], 3)(draw)
    return unit * draw.randint(2, 200)


def long_words(draw: random.Random) -> str:
    return words("abcdefghijklmnopqrstuvwxyz", 300)(draw) + draw.choice(["", " ", "'s", "\n"])


def hangul(draw: random.Random) -> str:
    syllables, jamo = block((0xAC00, 0xD7A4)), block((0x1100, 0x1113), (0x1161, 0x1176), (0x11A7, 0x11C3))
    return "".join(draw.choice(draw.choice((syllables, jamo))) for _ in range(draw.randint(1, 20)))


def from_bytes(draw: random.Random) -> str:
    return draw.randbytes(draw.randint(1, 60)).decode(errors="replace")


KINDS: list[Callable[[random.Random], str]] = [
    from_bytes,
    words([*"(){}[];:=+-*/<>!&|^%.,\"'#@$\\`~?_ \n\t", "if", "for", "return", "x1", "0x", "self."]),
    words(["\n", "\r\n", "    ", "\t", " ", "  ", "x", "pass", "}"]),
    words(['"', ":", ",", "{", "}", "[", "]", "null", "true", "12", "-0.5", " ", "\\n", "key"]),
    words([*"0123456789", ",", ".", " ", "٣", "½", "Ⅷ", "१", "-", "e", "%"]),
    words(["'", "’", "s", "S", "t", "T", "re", "RE", "ve", "LL", "ll", "d", "M", "m", " ", "a", "Z"]),
    words(["'", "ſ", "ß", "ẞ", "K", "s", "İ", "ı", "ǅ", "ﬁ", " ", "'ſ", "Σ", "ς"]),
    words([*block((0x1F300, 0x1F5FF), (0x1F3FB, 0x1F400)), "\u200d", "\ufe0f", "🇩", "🇪", " ", "👍"]),
    words(["a", "e", "A", "O", *block((0x300, 0x370), (0x1AB0, 0x1AC0), (0x20D0, 0x20F0))]),
    words([*block((0x900, 0x980), (0xE00, 0xE5C), (0x600, 0x660), (0x591, 0x5EB)), " ", "\u200f", "\u202b"]),
    words([*block((0x4E00, 0x5200), (0x3040, 0x3100), (0xFF01, 0xFF5F), (0x9FA0, 0x9FB0)), "。", "、"], 60),
    hangul,
    words([*block((0xE000, 0xE040), (0xF0000, 0xF0010), (0x378, 0x37A), (0xFFF0, 0xFFF9)), "a", " "]),
    words([*block((0, 0x20), (0x7F, 0xA0)), "\ufeff", "\ufffd", "a"]),
    words([*SPACES, "a", "."]),
    words(["\n", "\r", "\r\n", "\u2028", "\u2029", "\x0b", "\x0c", "\x85", "a", " ", "."]),
    long_words,
    repeats,
    words([*SPECIALS, "<|", "|>", "endoftext", "<|endoftext", "|endoftext|>", " ", "a", "<"], 8),
    words([*block((0x10000, 0x10100), (0x12000, 0x12050), (0x1D400, 0x1D450)), "a"]),
    words([" the", "ing", " of", "tion", "er", " a", "ed", "un", "ly", " S", "'s", "00", " {", "();\n"], 20),
    words(["  ", " ", "a", ".", "\n\n", "\n ", " \n", "/", "//", "*/", "!\n", "?!"]),
    words([*block((0x41, 0x5B), (0x61, 0x7B), (0xC0, 0x250), (0x386, 0x3D0), (0x1F00, 0x1F50)), " "]),
]
