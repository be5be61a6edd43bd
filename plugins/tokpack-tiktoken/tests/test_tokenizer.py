"""What tokpack adds to tiktoken: files, names, policies, errors. No network and no shared data needed."""

from __future__ import annotations

import base64
import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import requests
import tiktoken

from tokpack.batches import TextBatch
from tokpack.errors import (
    DamagedError,
    DocumentError,
    SpecialTokenError,
    StorageError,
    TokpackError,
    UsageError,
)
from tokpack.protocols import TokenizerOptions
from tokpack.tokenizers.probe import digest_answers, identify
from tokpack_tiktoken import tokenizer as backend
from tokpack_tiktoken.tokenizer import open_tokenizer, unicode_version

PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
MERGES = [b"th", b"the", b" t", b" the", b"in", b"ing", "é".encode(), b"  "]
RANKS = {bytes([byte]): byte for byte in range(256)} | {token: 256 + at for at, token in enumerate(MERGES)}
SPECIAL = {"<|endoftext|>": 300, "<|im_start|>": 301}
REFERENCE = TokenizerOptions(engine="reference")


def ranks_file(ranks: dict[bytes, int]) -> bytes:
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A ranks file and its settings, as a user would write them."""
    (tmp_path / "tiny.tiktoken").write_bytes(ranks_file(RANKS))
    settings = {"pattern": PATTERN, "special_tokens": SPECIAL}
    (tmp_path / "tiny.json").write_text(json.dumps(settings))
    return tmp_path / "tiny.tiktoken"


@pytest.fixture
def tiny(model):
    return open_tokenizer(str(model), REFERENCE)


def encoded(tokenizer, *texts, special="text"):
    return [ids.tolist() for ids in tokenizer.encode_batch(TextBatch.from_texts(texts), special=special)]


TEXTS = ["", "the thing in the inn", "é🙂\0", "<|endoftext|> the", "  \n\n  ", "I'll’ve"]


def test_ids_are_tiktokens(tiny):
    library = tiktoken.Encoding("x", pat_str=PATTERN, mergeable_ranks=RANKS, special_tokens=SPECIAL)
    assert encoded(tiny, *TEXTS) == [library.encode_ordinary(text) for text in TEXTS]
    parsed = [library.encode(text, allowed_special="all") for text in TEXTS]
    assert encoded(tiny, *TEXTS, special="parse") == parsed
    batch = tiny.encode_batch(TextBatch.from_texts(TEXTS))
    assert batch.tokens.dtype == np.uint32
    assert [tiny.decode_bytes(ids).decode() for ids in batch] == TEXTS
    assert tiny.decode_bytes([300, 258]) == b"<|endoftext|> t"
    assert len(tiny.encode_batch(TextBatch.from_texts([]))) == 0


def test_special_tokens_can_be_refused(tiny):
    with pytest.raises(SpecialTokenError, match="endoftext") as caught:
        encoded(tiny, *TEXTS, special="error")
    assert caught.value.document == 3
    assert encoded(tiny, "plain", special="error") == encoded(tiny, "plain")


def test_what_it_says_of_itself(tiny):
    assert tiny.vocab_size == 302
    assert dict(tiny.special_tokens) == SPECIAL
    assert tiny.eos_id == 300
    assert tiny.bos_id is None
    assert tiny.pad_id is None
    assert tiny.engine == f"tiktoken {tiktoken.__version__}"
    assert identify(tiny).unicode == unicode_version()


def test_the_unicode_version_is_one():
    # Whatever it is, a letter of Unicode 1 is a letter.
    assert unicode_version() in {"13 or older", "14", "15", "15.1", "16", "17"}


@pytest.mark.parametrize("how", ["ranks", "json", "saved", "saved json", "pickle"])
def test_every_way_to_open_gives_the_same_tokenizer(tiny, model, tmp_path, how):
    saved = tmp_path / "saved"
    saved.mkdir()
    tiny.save(saved)
    if how == "pickle":
        again = pickle.loads(pickle.dumps(tiny))
    else:
        path = {"ranks": model, "json": model.with_suffix(".json"), "saved": saved}.get(
            how, saved / "tiktoken.json"
        )
        again = open_tokenizer(str(path), REFERENCE)
    assert again.content_digest == tiny.content_digest
    assert identify(again) == identify(tiny)
    assert digest_answers(tiny, tiny.special_tokens) == digest_answers(again, tiny.special_tokens)
    second = tmp_path / "second"
    second.mkdir()
    again.save(second)
    for name in ("tiktoken.json", "ranks.tiktoken"):
        assert (second / name).read_bytes() == (saved / name).read_bytes()


def test_the_digest_sees_every_part(model):
    digests = {open_tokenizer(str(model), REFERENCE).content_digest}
    settings = {"pattern": PATTERN, "special_tokens": SPECIAL}
    for change in (
        {"pattern": PATTERN + r"|\s+"},
        {"special_tokens": {**SPECIAL, "<|x|>": 302}},
        {"eos_token": "<|im_start|>"},
        {"bos_token": "<|im_start|>"},
        {"pad_token": "<|im_start|>"},
    ):
        model.with_suffix(".json").write_text(json.dumps(settings | change))
        digests.add(open_tokenizer(str(model), REFERENCE).content_digest)
    model.with_suffix(".json").write_text(json.dumps(settings))
    swapped = {**RANKS, b"th": RANKS[b"in"], b"in": RANKS[b"th"]}
    model.write_bytes(ranks_file(swapped))
    digests.add(open_tokenizer(str(model), REFERENCE).content_digest)
    assert len(digests) == 7


def test_a_truncated_ranks_file_never_opens(tiny, tmp_path, model):
    whole = model.read_bytes()
    for length in range(len(whole)):
        if whole[:length].endswith(b"\n") and b"/w==" in whole[:length]:
            continue  # all bytes and fewer merges: a good file, of another tokenizer
        model.write_bytes(whole[:length])
        with pytest.raises(DamagedError, match="tiny"):
            open_tokenizer(str(model), REFERENCE)
    saved = tmp_path / "saved"
    saved.mkdir()
    tiny.save(saved)
    ranks = (saved / "ranks.tiktoken").read_bytes()
    (saved / "ranks.tiktoken").write_bytes(ranks[: ranks.rindex(b"\n", 0, -1) + 1])
    with pytest.raises(DamagedError, match="SHA-256"):
        open_tokenizer(str(saved), REFERENCE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ranks: ranks.replace(b"AA== 0\n", b""), "0x00"),
        (lambda ranks: ranks + b"AA== 900\n", "twice"),
        (lambda ranks: ranks + b"QUFB 5\n", "id 5 belongs to two tokens"),
        (lambda ranks: ranks + b"QUFB 300\n", "id 300 belongs to two tokens"),
        (lambda ranks: ranks + b"QUFB 4294967295\n", "between 0 and"),
        (lambda ranks: ranks + b"QUFB -1\n", "between 0 and"),
        (lambda ranks: ranks + b"QUF! 900\n", "line 265"),
        (lambda ranks: ranks + b"QUFB\n", "line 265"),
        (lambda ranks: ranks + b"QUFB x\n", "line 265"),
        (lambda ranks: b"\x80\x02\xff" + ranks, "line 1"),
        (lambda ranks: b"", "truncated"),
    ],
)
def test_damaged_ranks_are_named(model, change, message):
    model.write_bytes(change(model.read_bytes()))
    with pytest.raises(DamagedError, match=message):
        open_tokenizer(str(model), REFERENCE)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ("{", DamagedError, "tiny.json"),
        ("{}", DamagedError, "pattern"),
        ('{"pattern": "a", "special_tokens": {}, "colour": 1}', DamagedError, "colour"),
        ('{"pattern": "a", "special_tokens": {}, "format": 2}', UsageError, "upgrade"),
        ('{"pattern": "a", "special_tokens": {}, "ranks": "../x"}', DamagedError, "beside"),
        ('{"pattern": "a", "special_tokens": {}, "ranks": "no"}', StorageError, "no"),
        ('{"pattern": "a", "special_tokens": {}, "bos_token": "<s>"}', DamagedError, "<s>"),
        ('{"pattern": "(", "special_tokens": {}}', DamagedError, "regular expression"),
    ],
)
def test_damaged_settings_are_named(model, settings, error, message):
    model.with_suffix(".json").write_text(settings)
    with pytest.raises(error, match=message):
        encoded(open_tokenizer(str(model), REFERENCE), "a")


def test_a_ranks_file_alone_says_what_is_missing(model):
    model.with_suffix(".json").unlink()
    with pytest.raises(UsageError, match=r"does not say how text is split.*tiny\.json"):
        open_tokenizer(str(model), REFERENCE)


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("./nowhere", StorageError, "no such file"),
        ("nowhere.tiktoken", StorageError, "no such file"),
        ("cl100k", UsageError, "did you mean 'cl100k_base'"),
        ("zzzzzzzz", UsageError, "known: "),
        ("", UsageError, "no encoding"),
    ],
)
def test_unknown_names(reference, error, message):
    with pytest.raises(error, match=message):
        open_tokenizer(reference, REFERENCE)


def test_no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("TOKPACK_CACHE_DIR", "")

    def unreachable(*args, **kwargs):
        raise requests.ConnectionError("no route to host")

    monkeypatch.setattr(requests, "get", unreachable)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(StorageError, match=r"network cannot be reached.*TIKTOKEN_CACHE_DIR"):
        open_tokenizer("p50k_base", REFERENCE)
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", str(tmp_path))
    with pytest.raises(StorageError, match="TIKTOKEN_CACHE_DIR is not set"):
        open_tokenizer("p50k_base", REFERENCE)


def test_a_download_that_is_something_else(monkeypatch, tmp_path):
    monkeypatch.setenv("TOKPACK_CACHE_DIR", "")

    class Page:
        content = b"<html>please log in</html>"

        def raise_for_status(self):
            return

    monkeypatch.setattr(requests, "get", lambda address: Page())
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(DamagedError, match=r"tiktoken:p50k_base are damaged.*TIKTOKEN_CACHE_DIR"):
        open_tokenizer("p50k_base", REFERENCE)


@pytest.mark.parametrize("bad", [[301, 302], [-1], [2**40], np.array([70_000], dtype=np.uint32)])
def test_unknown_ids(tiny, bad):
    with pytest.raises(DamagedError, match=f"{list(bad)[-1]} is not in the vocabulary"):
        tiny.decode_bytes(bad)


class PanicException(BaseException):
    """What a panic of the library looks like."""


@pytest.mark.parametrize("failure", [PanicException("stack"), ValueError("Max stack size exceeded")])
def test_what_the_library_gives_up_on_is_named(tiny, monkeypatch, failure):
    def encode_to_numpy(text, **options):
        raise failure

    monkeypatch.setattr(tiny, "_encoding", type("Broken", (), {"encode_to_numpy": encode_to_numpy}))
    with pytest.raises(DocumentError, match=r"document 0 of the batch \(3 bytes") as caught:
        encoded(tiny, "abc")
    assert isinstance(caught.value, TokpackError)


def test_an_interrupt_stays_one(tiny, monkeypatch):
    def encode_to_numpy(text, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(tiny, "_encoding", type("Broken", (), {"encode_to_numpy": encode_to_numpy}))
    with pytest.raises(KeyboardInterrupt):
        encoded(tiny, "abc")


@pytest.mark.parametrize("unit", [" ", "a", "\n", "\t", "é", "漢", "🙂", "0", "^", "'s", "\u3000", "aA"])
@pytest.mark.parametrize("pattern", [PATTERN, r"\s*[\r\n]+|\s+(?!\S)|\s+|\S+"])
def test_long_runs_end_in_ids_or_in_a_named_error(model, unit, pattern):
    settings = {"pattern": pattern, "special_tokens": {}}
    model.with_suffix(".json").write_text(json.dumps(settings))
    tokenizer = open_tokenizer(str(model), REFERENCE)
    text = unit * 300_000
    try:
        [ids] = tokenizer.encode_batch(TextBatch.from_texts([text]))
    except DocumentError as error:
        assert "document 0" in str(error)  # noqa: PT017  either outcome is good
    else:
        assert tokenizer.decode_bytes(ids).decode() == text


class Fast:
    """A native engine that gives the right ids, and says when it was asked."""

    name = "fast 1"

    def __init__(self, reference):
        self.reference = reference
        self.calls = 0

    def encode_batch(self, texts, *, special="text"):
        self.calls += 1
        return self.reference.encode_batch(texts, special=special)


def test_a_native_engine_encodes_where_there_is_one(model, tiny, monkeypatch):
    asked = []

    def native_engine(description, *, reference, engine):
        asked.append((description, engine))
        return Fast(reference)

    monkeypatch.setattr(backend, "native_engine", native_engine)
    fast = open_tokenizer(str(model), TokenizerOptions(engine="native"))
    assert fast.engine == "fast 1"
    assert encoded(fast, *TEXTS) == encoded(tiny, *TEXTS)
    assert fast._native.calls == 1
    assert fast.decode_bytes([259]) == b" the"
    assert identify(fast).same_ids(identify(tiny))
    [(description, engine)] = asked
    assert description.pattern == PATTERN
    assert description.ranks == RANKS
    assert description.special_tokens == SPECIAL
    assert engine == "native"


def test_equal_content_by_name_and_by_file(tmp_path, monkeypatch):
    """A saved encoding has the digest of its name, so a dataset opens offline for ever."""
    ranks = ranks_file(RANKS)
    monkeypatch.setattr(
        backend,
        "definition_by_name",
        lambda name: backend.Definition(f"tiktoken:{name}", PATTERN, RANKS, {"<|endoftext|>": 50256}),
    )
    named = open_tokenizer("gpt2", REFERENCE)
    named.save(tmp_path)
    assert (tmp_path / "ranks.tiktoken").read_bytes() == ranks
    saved = open_tokenizer(str(tmp_path), REFERENCE)
    assert saved.content_digest == named.content_digest
    assert hashlib.sha256(ranks).hexdigest() in (tmp_path / "tiktoken.json").read_text()
