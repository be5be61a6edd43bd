"""Files that are no tokenizer, contradict themselves, or hold what the engine cannot reproduce."""

from __future__ import annotations

import base64
import json

import pytest

from tokpack.errors import DamagedError, StorageError, UnsupportedError, UsageError
from tokpack.protocols import TiktokenModel, TokenizerJson, TokenizerOptions
from tokpack_bpe.opening import accelerate, open_tokenizer
from tokpack_bpe.patterns import PATTERNS
from tokpack_bpe.vocabulary import BYTE_ORDER, mapped

BYTES = {bytes([byte]): byte for byte in range(256)}
VOCAB = {mapped(bytes([byte])): i for i, byte in enumerate(BYTE_ORDER)}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
NO_REGEX = BYTE_LEVEL | {"use_regex": False}


def opened(path):
    return open_tokenizer(str(path), TokenizerOptions())


def model(ranks=BYTES, pattern=PATTERNS["gpt2"], special_tokens=None):
    return TiktokenModel(pattern, ranks, special_tokens or {})


def tokenizer_json(*, added=(), bpe=None, **parts):
    bpe = {"type": "BPE", "vocab": VOCAB | {"ab": 256}, "merges": [["a", "b"]]} | (bpe or {})
    whole = {"model": bpe, "added_tokens": list(added), "pre_tokenizer": BYTE_LEVEL, "decoder": BYTE_LEVEL}
    return TokenizerJson(json.dumps(whole | parts).encode())


def added(content, token_id=257, **options):
    return {"content": content, "id": token_id, "special": True, "normalized": False} | options


def split(regex, behavior="Isolated", *, invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def test_a_good_file_opens():
    assert accelerate(tokenizer_json()).encode_texts(["abba"]).tokens.tolist() == [
        256,
        VOCAB["b"],
        VOCAB["a"],
    ]


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"bpe": {"type": "Unigram"}}, "type 'Unigram'"),
        ({"bpe": {"type": "WordPiece"}}, "type 'WordPiece'"),
        ({"bpe": {"dropout": 0.1}}, "dropout 0.1"),
        ({"bpe": {"end_of_word_suffix": "</w>"}}, "end_of_word_suffix '</w>'"),
        ({"bpe": {"continuing_subword_prefix": "##"}}, "continuing_subword_prefix '##'"),
        ({"bpe": {"vocab": {"a": 0, "b": 1, "ab": 2}, "unk_token": "a"}}, "unknown token"),
        ({"bpe": {"vocab": {"a": 0, "b": 1, "ab": 2}, "byte_fallback": True}}, "byte fallback"),
        ({"normalizer": {"type": "NFKC"}}, "normalizer 'NFKC'"),
        (
            {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}},
            "Sequence",
        ),
        ({"pre_tokenizer": None}, "pre-tokenizer None"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, "pre-tokenizer 'Metaspace'"),
        ({"pre_tokenizer": BYTE_LEVEL | {"add_prefix_space": True}}, "add_prefix_space"),
        ({"pre_tokenizer": NO_REGEX}, "a pre-tokenizer that splits by"),
        ({"pre_tokenizer": sequence(split(r"\w+"), NO_REGEX)}, r"splits by \\w\+"),
        # Possessive for tiktoken, a repeated group for Hugging Face's regular expressions.
        ({"pre_tokenizer": sequence(split(PATTERNS["cl100k"]), NO_REGEX)}, "splits by"),
        ({"pre_tokenizer": sequence(split(PATTERNS["llama3"], "MergedWithNext"), NO_REGEX)}, "'Split'"),
        ({"pre_tokenizer": sequence({"type": "Digits", "individual_digits": False}, BYTE_LEVEL)}, "'Digits'"),
        ({"decoder": None}, "decoder None"),
        ({"decoder": {"type": "WordPiece"}}, "decoder 'WordPiece'"),
        ({"added": [added("<x>", lstrip=True)]}, "'<x>' with lstrip"),
        ({"added": [added("<x>", rstrip=True)]}, "'<x>' with rstrip"),
        ({"added": [added("<x>", single_word=True)]}, "'<x>' with single_word"),
        ({"added": [added("<x>", 300)]}, "'<x>' with id 300 where the library gives it 257"),
    ],
)
def test_what_is_not_reproduced_is_refused_by_name(parts, named):
    with pytest.raises(UnsupportedError, match=named):
        accelerate(tokenizer_json(**parts))


def test_removing_what_is_between_matches_changes_nothing():
    step = sequence(split(PATTERNS["llama3"], "Removed", invert=True), NO_REGEX)
    assert accelerate(tokenizer_json(pre_tokenizer=step)).definition.pattern == "llama3"


def test_an_unknown_pattern_is_refused_by_name():
    with pytest.raises(UnsupportedError, match=r"a pattern that this engine does not know: \\S\+"):
        accelerate(model(pattern=r"\S+"))


@pytest.mark.parametrize(
    ("ranks", "named"),
    [
        ({}, "empty vocabulary"),
        ({b"a": 0}, r"the single byte b'\\x00' is no token"),
        ({k: v for k, v in BYTES.items() if v != 7}, r"the single byte b'\\x07' is no token"),
        (BYTES | {b"ab": -1}, "-1"),
        (BYTES | {b"ab": 2**31}, "2,147,483,648"),
        (BYTES | {b"ab": 1 << 24}, "above 16777215"),
        (BYTES | {b"ab": 7}, "id 7 is given to"),
        (BYTES | {b"": 300}, "token 300 is empty"),
    ],
)
def test_damaged_ranks(ranks, named):
    with pytest.raises(DamagedError, match=named):
        accelerate(model(ranks))


def test_special_tokens_that_cannot_be():
    with pytest.raises(DamagedError, match="empty added token"):
        accelerate(model(special_tokens={"": 300}))
    with pytest.raises(DamagedError, match="adds the token '<x>' twice"):
        accelerate(tokenizer_json(added=[added("<x>"), added("<x>", 258)]))


def test_of_overlapping_special_tokens_the_longest_wins():
    tokens = {"<|a|>": 300, "<|a|><|b|>": 301, "|><": 302}
    tokenizer = accelerate(model(special_tokens=tokens))
    assert tokenizer.encode_texts(["<|a|><|b|><|a|>><"], special="parse").tokens.tolist() == [
        301,
        300,
        62,
        60,
    ]


@pytest.mark.parametrize(
    ("bpe", "named"),
    [
        ({"merges": [["a", "b"], ["a", "b"]]}, "merge 2 .* is merge 1 again"),
        ({"merges": [["a", "c"]]}, "'ac' is not in the vocabulary"),
        ({"merges": [["abc", "a"]]}, "'abc' is not in the vocabulary"),
        ({"merges": ["a b c"]}, "not two tokens"),
        ({"merges": [["a"]]}, "not two tokens"),
        ({"merges": [3]}, "not two tokens"),
        ({"merges": None}, "no list of merges"),
        ({"vocab": VOCAB | {"ab": 1}}, "id 1 to"),
        ({"vocab": VOCAB | {"ab": "x"}}, "no token and its id"),
        ({"vocab": VOCAB | {"ab": -5}}, "id -5"),
        ({"vocab": VOCAB | {"ab": 2**40}}, "1,099,511,627,776"),
        ({"vocab": 3}, "no model with a vocabulary"),
    ],
)
def test_damaged_tokenizer_json(bpe, named):
    with pytest.raises(DamagedError, match=named):
        accelerate(tokenizer_json(bpe=bpe))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"model": 3}', b"[" * 100_000])
def test_what_is_no_tokenizer_json(content):
    with pytest.raises(DamagedError):
        accelerate(TokenizerJson(content))


def test_every_truncation_of_a_good_file_is_an_error():
    content = tokenizer_json().content
    for end in range(0, len(content), 97):
        with pytest.raises(DamagedError):
            accelerate(TokenizerJson(content[:end]))


def write_ranks(folder, lines, settings=None):
    (folder / "my.tiktoken").write_bytes(b"\n".join(lines) + b"\n")
    if settings is not None:
        (folder / "my.json").write_text(json.dumps(settings))
    return folder / "my.tiktoken"


RANK_LINES = [b"%s %d" % (base64.b64encode(token), rank) for token, rank in BYTES.items()]
SETTINGS = {"pattern": PATTERNS["cl100k"], "special_tokens": {"<|endoftext|>": 300}}


def test_a_ranks_file_and_its_settings(tmp_path):
    tokenizer = opened(write_ranks(tmp_path, [*RANK_LINES, b"YWI= 256"], SETTINGS))
    assert tokenizer.encode_texts(["ab<|endoftext|>"], special="parse").tokens.tolist() == [256, 300]
    assert (tokenizer.eos_id, tokenizer.definition.pattern) == (300, "cl100k")
    tokenizer.save(tmp_path / "saved")
    assert opened(tmp_path / "saved").content_digest == tokenizer.content_digest


def test_a_pattern_by_its_name(tmp_path):
    path = write_ranks(tmp_path, RANK_LINES, SETTINGS | {"pattern": "o200k"})
    assert opened(path).definition.pattern == "o200k"


@pytest.mark.parametrize(
    ("lines", "settings", "error", "named"),
    [
        (RANK_LINES, None, UsageError, "does not say how text is split"),
        (RANK_LINES, {"pattern": 3}, DamagedError, '"pattern", a string'),
        (RANK_LINES, {"pattern": "x"}, UnsupportedError, "does not know: x"),
        ([*RANK_LINES, b"YWI="], SETTINGS, DamagedError, "line 257 .* is the file whole"),
        ([*RANK_LINES, b"YW\xff 256"], SETTINGS, DamagedError, "line 257"),
        ([*RANK_LINES, b"YWI= x"], SETTINGS, DamagedError, "line 257"),
        ([*RANK_LINES, b"YWI= 256", b"YWI= 257"], SETTINGS, DamagedError, "a second rank"),
        (RANK_LINES[:100], SETTINGS, DamagedError, "is no token"),
    ],
)
def test_damaged_ranks_files(lines, settings, error, named, tmp_path):
    with pytest.raises(error, match=named):
        opened(write_ranks(tmp_path, lines, settings))


def write_gpt2(folder, vocab, merges):
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_bytes(merges)
    return folder


@pytest.mark.parametrize(
    ("vocab", "merges", "named"),
    [
        (VOCAB, b"#version: 0.2\na b\n", "'ab' is not in the vocabulary"),
        (VOCAB | {"ab": 256}, b"a b\na\n", "line 2 .* not two tokens"),
        (VOCAB | {"ab": 256}, b"a  b\n", "line 1 .* not two tokens"),
        (VOCAB | {"ab": 256}, b"a \xff\n", "not UTF-8"),
        (VOCAB | {"ab": 256}, b"a b\na b\n", "is merge 1 again"),
        ({"a": 0, "b": 1, "ab": 2}, b"a b\n", "is no token"),
        ({}, b"", "empty vocabulary"),
    ],
)
def test_damaged_gpt2_files(vocab, merges, named, tmp_path):
    with pytest.raises(DamagedError, match=named):
        opened(write_gpt2(tmp_path, vocab, merges))


def test_merges_that_never_apply_do_no_harm(tmp_path):
    """Each needs the other's result, so neither is ever made: not an error, and not an endless loop."""
    vocab = VOCAB | {"abab": 256, "ababab": 257, "ab": 258}
    tokenizer = opened(write_gpt2(tmp_path, vocab, b"ab ab\nabab ab\n"))
    assert tokenizer.encode_texts(["ababab"]).tokens.tolist() == [VOCAB["a"], VOCAB["b"]] * 3


def test_paths_that_are_no_tokenizer(tmp_path):
    with pytest.raises(UsageError, match="there is no"):
        opened(tmp_path / "missing")
    with pytest.raises(UsageError, match=r"holds no tokenizer\.json"):
        opened(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(UsageError, match=r"needs merges\.txt beside it"):
        opened(tmp_path)
    (tmp_path / "dir.tiktoken").mkdir()
    with pytest.raises(UsageError, match="holds no"):
        opened(tmp_path / "dir.tiktoken")


def test_settings_name_the_special_ids(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json(added=[added("<x>"), added("<y>", 258)]).content)
    assert opened(tmp_path).eos_id is None
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "<y>"}, "pad_token": "<x>"}')
    tokenizer = opened(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (None, 258, 257)
    tokenizer.save(tmp_path / "saved")
    assert opened(tmp_path / "saved").content_digest == tokenizer.content_digest


def test_unreadable_files_are_named(tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b"{}")
    path.chmod(0)
    try:
        path.read_bytes()
    except PermissionError:
        with pytest.raises(StorageError, match=r"tokenizer\.json"):
            opened(path)
    else:
        pytest.skip("this user may read everything")
