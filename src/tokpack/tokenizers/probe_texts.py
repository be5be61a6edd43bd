"""The frozen probe set: texts on which tokenizers of one name are most likely to differ.

Everything here is a table or arithmetic, so that every machine makes the same texts. Changing anything means
raising `PROBE_VERSION`, since all fingerprints change with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product

__all__ = ["PROBE_COUNT", "PROBE_VERSION", "probe_texts"]

PROBE_VERSION = 1
PROBE_COUNT = 4096

_WORDS = (
    "the world tokenization ANTIDISESTABLISHMENT iPhone naïve Zürich Straße İstanbul ﬁnance ĳsland Ǆungla "
    "Ωμέγα Привет ЁЖИК Україна Հայաստան שָׁלוֹם مرحبا العَرَبِيَّة فارسی‌ها ܫܠܡܐ ދިވެހި ߒߞߏ नमस्ते क्षत्रिय বাংলা "
    "ਪੰਜਾਬੀ ગુજરાતી ଓଡ଼ିଆ தமிழ் తెలుగు ಕನ್ನಡ മലയാളം සිංහල ภาษาไทย ພາສາລາວ བོད་ཡིག မြန်မာ ქართული ᲥᲐᲠᲗᲣᲚᲘ አማርኛ "
    "ᏣᎳᎩ ꮳꮃꭹ ᐃᓄᒃᑎᑐᑦ ᚠᚢᚦ ភាសាខ្មែរ ᠮᠣᠩᠭᠣᠯ 日本語 ひらがな カタカナ ﾊﾝｶｸ 漢字 简体中文 㐀𠀀 한국어 한글 "
    "ㄅㄆㄇ ꆈꌠꉙ 𐌰𐌱 𐎀𐎁 𒀀𒁀 𓀀𓂀 𞤀𞤁 ẹ̀kọ́ Tiếng Việt"
)
_WORD_FRAMES = (
    "{}", " {}", "{} {}", "  {}", "{}\n", "\n{}", "({})", "{}1", "2{}", "{}'s", "_{}", "{}{}", "{}.", "\t{},"
)  # fmt: skip
_SPACES = (
    " \t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2003\u2007\u2009\u200a\u200b\u2028\u2029\u202f"
    "\u205f\u2060\u3000\ufeff"
)
_SPACE_FRAMES = ("{}", "a{}b", "a{}", "{}a", " {}a", "1{}2", "a {}\nb")
_APOSTROPHES = "'’ʼ＇`"
_ENDINGS = "s t re ve m ll d S T RE Ve LL D ſ K x"
_STEMS = ("I", "don", " they", "DON", "5", "é", " ", ".")
_DIGITS = "0٠०๐０𝟘²ⅷ½"
_SPECIALS = (
    "<|endoftext|> <|endofprompt|> <|fim_prefix|> <|im_start|> <|im_end|> <|begin_of_text|> <|eot_id|> "
    "<|pad|> <s> </s> <unk> <pad> [CLS] [SEP] [MASK] [INST] <think> <bos> <eos> <0x0A> ▁ Ġ Ċ ## @@ </w>"
)
_EMOJI = "🙂 👍🏽 👨‍👩‍👧‍👦 🇩🇪🇯🇵 🏳️‍🌈 ❤️ ☺︎ 1️⃣ 🧑🏿‍🚀 🏴󠁧󠁢󠁷󠁬󠁳󠁿 🫠 🪿 🫩 ™️ ©"
_CODE = (
    "def f(x: int = 0) -> str:\n    return f'{x!r:>{10}}'\n",
    "for (int i = 0; i < n; ++i) {\n\t\ta[i] += b[i]; // ok\n\t}\r\n",
    "#include <stdio.h>\n\nint main(void){return 0;}",
    'SELECT * FROM "users" WHERE id >= 10 AND name LIKE \'%x%\';',
    "<a href=\"https://example.org/?q=1&amp;r=2#top\">link</a><br/>",
    '{"key": [1, 2.5e-3, null, true], "nested": {"a": "\\u00e9\\n"}}',
    "fn main() -> Result<(), Box<dyn Error>> { Ok(()) }",
    "const f = async (x) => ({...x, y: x?.y ?? 0}) !== undefined;",
    "if [[ -z \"$1\" ]]; then echo \"usage: $0 <file>\" >&2; exit 64; fi",
    "\\begin{align}\n  E &= mc^2 \\\\\n  \\nabla \\cdot E &= 0\n\\end{align}",
    "| a | b |\n|:--|--:|\n| **1** | `2` |\n\n- [x] done\n```py\nx\n```\n",
    "user@example.com 192.168.0.1 2026-11-21T02:35:06Z C:\\dir\\file.txt ~/.bashrc",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case __dunder__ x1y2z3",
    "HTTPServerError XMLHttpRequest parseURLs iOS18 McDonald O'Neill's rock'n'roll 'twas",
    "            \n        \n    x\n\n\n\n  \t \t  y    ",
    "1,234,567.89 $5.00 50% 3rd 1st 12345678901234567890 0xDEADBEEF 1e-10 -0 +1 №5",
)  # fmt: skip
# Texts on which fast engines have been seen to differ.
_HARD = (
    "",
    " ",
    "The quick brown fox jumps over the lazy dog, doesn't it? I'LL SAY SO'S HE.",
    "it's we're I've I'm you'll he'd IT'S WE'RE I'ſ ’s ''s 's's",
    "def f(x):\n    return {'a': [1, 2.5, 1e-9, 0xFF]}\t# 12345678901\r\n\r\n",
    "a  b   c \n d\n\n e \t\n\n\n  f  ",
    "\n \n  \n",
    "x=1;y+=2;//z/\n/*…*/\r\n/",
    "naïve Ünïcödé ǅ ʰ ſtop ﬁne Straße İstanbul CamelCaseHTTPServer iPhone's XMLHttp'S",
    "e\u0301 \u0301e \u0338= A\u030a\u0323 \u1100\u1161\u11a8 \uac01 한국어 각",
    "日本語のテキスト、漢字とカタカナ。中文分词测试，全角１２３４５ＡＢＣ",
    "हिन्दी में पाठ ภาษาไทยไม่มีช่องว่าง العربيّة עברית",
    "😀👍🏽👨‍👩‍👧‍👦🇩🇪 ☃️ ©®™ €£¥ ½²³ Ⅻ ٣٤٥٦ १२३४",
    "\u00a0\u2003\u3000 \u0085\u2028\u2029\u200b\ufeff\x1c\x1f\x00\x07\x7f\ue000\U000e0001\ufffd",
    "<|endoftext|> <|endofprompt|><|im_start|>user<|im_end|> <s></s> [INST] <think>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 3,
    "------------------------------====****####________      \t\t\t\t        ",
)
_CODE_FRAMES = ("{}", " {}", "{}\n", "{}{}", "x{}", "\n\n{}")
_RUNS = (
    "a",
    " ",
    "\n",
    "\r\n",
    "\t",
    "é",
    "漢",
    "🙂",
    ".",
    "-",
    "=",
    "0",
    "'",
    "ab",
    "\u0301",
    "\u200d",
    "A",
)
_RUN_LENGTHS = (2, 3, 4, 5, 7, 8, 16, 31, 64)
# Letters by the Unicode version that brought them (13 to 17): an older table takes them for symbols.
_NEW_LETTERS = (
    "\U00010e80\u31bb\U00010570\ua7d0\U00011f04\U0001e4d0\U0002ebf0\U000105c0\u1c89\ua7cb\U00016ea0"
)
_POINT_FRAMES = ("{}", "a{}b", " {}", "{}1", "{}{}", "'{}")


def _spaces() -> Iterator[str]:
    for space, count, frame in product(_SPACES, (1, 2, 3), _SPACE_FRAMES):
        yield frame.format(space * count)


def _contractions() -> Iterator[str]:
    for stem, apostrophe, ending in product(_STEMS, _APOSTROPHES, _ENDINGS.split()):
        yield stem + apostrophe + ending


def _numbers() -> Iterator[str]:
    for zero, length, prefix in product(_DIGITS, range(1, 11), ("", " ", "a", "$")):
        step = 1 if zero in "0٠०๐０𝟘" else 0
        yield prefix + "".join(chr(ord(zero) + step * (at * 7 % 10)) for at in range(length))


def _code_points() -> Iterator[str]:
    for letter, frame in product(_NEW_LETTERS, _POINT_FRAMES):
        yield frame.format(letter, letter)
    for number in range(128):
        yield chr(number)
    # A walk over all planes in uneven steps, dense where scripts are.
    for step, stop in ((97, 0x3400), (1009, 0x20000), (16411, 0x110000)):
        point = step
        while point < stop:
            if not 0xD800 <= point < 0xE000:
                frame = _POINT_FRAMES[point % len(_POINT_FRAMES)]
                yield frame.format(chr(point), chr(point))
            point += step


def _tables() -> Iterator[str]:
    yield from _HARD
    yield from _spaces()
    yield from _contractions()
    yield from _numbers()
    yield from _code_points()
    for words, frames in (
        (_WORDS.split(), _WORD_FRAMES),
        (_SPECIALS.split(), ("{}", "a{}b", " {} ", "\n{}\n", "{}{}")),
        (_EMOJI.split(), ("{}", " {}", "a{}b", "{}{}")),
        (_CODE, _CODE_FRAMES),
    ):
        for word, frame in product(words, frames):
            yield frame.format(word, word)
    for unit, length in product(_RUNS, _RUN_LENGTHS):
        yield unit * length


@cache
def probe_texts() -> tuple[str, ...]:
    """Return the `PROBE_COUNT` texts: every table's, and then mixtures of three of them up to the count."""
    texts = list(_tables())
    tables = len(texts)
    state = 1
    while len(texts) < PROBE_COUNT:
        picked = []
        for _ in range(3):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64  # Knuth's MMIX generator
            picked.append(texts[(state >> 33) % tables])
        texts.append("".join(picked))
    return tuple(texts)
