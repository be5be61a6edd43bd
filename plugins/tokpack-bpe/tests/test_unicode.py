"""Tables that were generated from the reference libraries, and normalization by them."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import normalizers

from tokpack_bpe import _native

SCRIPTS = Path(__file__).parent.parent / "scripts"
NFC = normalizers.NFC().normalize_str


@pytest.mark.parametrize("script", ["unicode_classes.py", "normal_form.py"])
def test_tables_are_those_of_the_installed_libraries(script):
    subprocess.run([sys.executable, SCRIPTS / script, "--check"], check=True)


@pytest.mark.parametrize("context", ["{}", "a{}\u0301\u0323", "e\u0345{}", "{}\u0338", "\u1100{}\u11a8"])
def test_normal_form_of_every_code_point(context):
    texts = [context.format(chr(point)) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    whole = "\n".join(texts)
    ours = _native.normalize_nfc(whole.encode()).decode()
    if ours != NFC(whole):
        for text in texts:
            assert _native.normalize_nfc(text.encode()).decode() == NFC(text), ascii(text)


def test_normal_form_of_random_sequences():
    marks = [chr(point) for point in (*range(0x300, 0x370), *range(0x591, 0x5C8), *range(0x610, 0x61B))]
    jamo = [chr(point) for point in (*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A7, 0x11C3))]
    letters = [
        *"aeiouAEOnsS \n",
        "\uac00",
        "\uac01",
        *map(chr, range(0xC0, 0x250)),
        *map(chr, range(0x900, 0xA00)),
    ]
    draw = random.Random(5)
    for _ in range(30_000):
        text = "".join(draw.choice(draw.choice((marks, jamo, letters))) for _ in range(draw.randint(1, 8)))
        assert _native.normalize_nfc(text.encode()).decode() == NFC(text), ascii(text)


def test_text_in_normal_form_is_left_alone():
    text = "plain text, é and 한국어 and 日本語".encode()
    assert _native.normalize_nfc(text) is text
