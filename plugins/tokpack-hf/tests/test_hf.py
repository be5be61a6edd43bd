"""What hf: promises beyond the contract: files, folders, the hub, special tokens, forks, hostile files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tokpack.batches import TextBatch
from tokpack.errors import DamagedError, DocumentError, StorageError, UsageError
from tokpack.protocols import ChatTokenizer, SpanTokenizer, TemplateTokenizer, TokenizerOptions
from tokpack_hf.tokenizer import open_tokenizer

TEXTS = ["", "The cat sat", "  two\n\nlines ", "Äpfel 日本 🜚", "it's <|endoftext|> </s> [SEP]"]
KINDS = ["byte-level", "wordpiece", "unigram", "llama"]
REFERENCE = TokenizerOptions(engine="reference")


def opened(path, options=REFERENCE):
    return open_tokenizer(str(path), options)


@pytest.fixture
def folder(paths, tmp_path):
    shutil.copy(paths["byte-level"], tmp_path / "tokenizer.json")
    return tmp_path


def write(folder, name, value):
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))


def changed(folder, **changes):
    """Write a tokenizer.json with some of its parts replaced."""
    definition = json.loads((folder / "tokenizer.json").read_text()) | changes
    write(folder, "tokenizer.json", definition)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_text_are_the_librarys(paths, kind):
    tokenizer, library = opened(paths[kind]), Tokenizer.from_file(str(paths[kind]))
    library.no_truncation()
    library.no_padding()
    if kind == "llama":
        library.model.dropout = None
    texts = TextBatch.from_texts(TEXTS)
    parsed = tokenizer.encode_batch(texts, special="parse")
    assert [ids.tolist() for ids in parsed] == [
        library.encode(text, add_special_tokens=False).ids for text in TEXTS
    ]
    for ids in parsed:
        spelled = library.decode(ids.tolist(), skip_special_tokens=False)
        assert tokenizer.decode_bytes(ids).decode() == spelled
    prefix, suffix = tokenizer.template
    full = library.encode(TEXTS[1], add_special_tokens=True).ids
    assert full == [*prefix, *parsed[1].tolist(), *suffix]


@pytest.mark.parametrize("kind", KINDS)
def test_spans_say_where_tokens_come_from(paths, kind):
    tokenizer = opened(paths[kind])
    texts = TextBatch.from_texts(TEXTS)
    spans = tokenizer.encode_spans(texts)
    assert spans.tokens.tolist() == tokenizer.encode_batch(texts).tokens.tolist()
    for index, text in enumerate(TEXTS):
        covered = bytearray(len(text.encode()))
        part = slice(spans.offsets[index], spans.offsets[index + 1])
        for start, stop in zip(spans.columns["start"][part], spans.columns["stop"][part], strict=True):
            assert 0 <= start <= stop <= len(covered)
            text.encode()[start:stop].decode()
            covered[start:stop] = b"x" * (stop - start)
        missing = bytes(byte for byte, seen in zip(text.encode(), covered, strict=True) if not seen)
        assert not missing.strip()


def test_capabilities(paths):
    tokenizer = opened(paths["byte-level"])
    assert isinstance(tokenizer, SpanTokenizer | TemplateTokenizer | ChatTokenizer)
    assert {kind: opened(paths[kind]).lossless for kind in KINDS} == {
        "byte-level": True, "wordpiece": False, "unigram": False, "llama": False,
    }  # fmt: skip
    llama = opened(paths["llama"])
    ids = llama.encode_batch(TextBatch.from_texts(["a 🜚"])).tokens
    assert llama.decode_bytes(ids) == "a 🜚".encode()
    assert llama.decode_bytes(ids[:-1]) == "a 🜚".encode()[:-1]


def test_bos_eos_pad(folder):
    assert (opened(folder).eos_id, opened(folder).pad_id, opened(folder).bos_id) == (0, 1, None)
    write(folder, "special_tokens_map.json", {"eos_token": {"content": "<|pad|>"}, "bos_token": "<|pad|>"})
    assert (opened(folder).eos_id, opened(folder).bos_id) == (1, 1)
    write(folder, "tokenizer_config.json", {"eos_token": "<|endoftext|>", "pad_token": None})
    assert (opened(folder).eos_id, opened(folder).bos_id, opened(folder).pad_id) == (0, 1, None)
    assert opened(folder).chat_tokens["eos_token"] == "<|endoftext|>"


def test_a_folder_has_the_tokens_of_its_settings_and_a_file_has_not(folder):
    size = opened(folder).vocab_size
    added = {
        str(size): {"content": "<tool>", "special": False},
        str(size + 1): {"content": "<|im_end|>", "special": True},
    }
    write(folder, "tokenizer_config.json", {"added_tokens_decoder": added, "eos_token": "<|im_end|>"})
    whole, file = opened(folder), opened(folder / "tokenizer.json")
    assert (whole.vocab_size, file.vocab_size) == (size + 2, size)
    assert whole.eos_id == whole.special_tokens["<|im_end|>"] == size + 1
    assert whole.encode_batch(TextBatch.from_texts(["<tool>"])).tokens.tolist() == [size]
    assert whole.content_digest != file.content_digest
    assert whole.decode_bytes([size + 1]) == b"<|im_end|>"
    # One and the same tokenizer in another layout.
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    library.add_tokens(["<tool>"])
    library.add_special_tokens(["<|im_end|>"])
    other = folder / "other"
    other.mkdir()
    library.save(str(other / "tokenizer.json"), pretty=False)
    write(other, "special_tokens_map.json", {"eos_token": "<|im_end|>"})
    assert opened(other).content_digest == whole.content_digest
    added[str(size + 9)] = added.pop(str(size))
    write(folder, "tokenizer_config.json", {"added_tokens_decoder": added})
    with pytest.raises(DamagedError, match="files of one revision"):
        opened(folder)


def test_what_must_not_change_ids_does_not(folder):
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    before = opened(folder)
    library.enable_truncation(2)
    library.enable_padding(length=7)
    library.save(str(folder / "tokenizer.json"))
    after = opened(folder)
    texts = TextBatch.from_texts(TEXTS)
    assert after.encode_batch(texts).tokens.tolist() == before.encode_batch(texts).tokens.tolist()
    assert after.content_digest == before.content_digest


def test_chat_templates_are_found(folder):
    assert opened(folder).chat_template is None
    write(folder, "tokenizer_config.json", {"chat_template": "one"})
    assert opened(folder).chat_template == "one"
    named = [{"name": "tool_use", "template": "two"}, {"name": "default", "template": "three"}]
    write(folder, "tokenizer_config.json", {"chat_template": named})
    assert opened(folder).chat_template == "three"
    write(folder, "chat_template.jinja", "four")
    assert opened(folder).chat_template == "four"


FORK = """
import os, signal, sys, threading
from tokpack.batches import TextBatch
from tokpack.protocols import TokenizerOptions
from tokpack_hf.tokenizer import open_tokenizer
tokenizer = open_tokenizer(sys.argv[1], TokenizerOptions(engine="reference"))
texts = TextBatch.from_texts(["The cat sat on the mat"] * 400)
wanted = tokenizer.encode_batch(texts).tokens.tolist()
def fork():
    child = os.fork()
    if not child:
        signal.alarm(10)
        os._exit(tokenizer.encode_batch(texts).tokens.tolist() != wanted)
    assert os.waitpid(child, 0)[1] == 0, "the child hung or differed"
for _ in range(int(sys.argv[2])):
    fork()
    thread = threading.Thread(target=fork)
    thread.start()
    tokenizer.encode_batch(texts)
    thread.join()
print(os.environ.get("TOKENIZERS_PARALLELISM"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("parallelism", ["true", "false", None])
def test_encode_fork_encode(paths, parallelism):
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    if parallelism is not None:
        environment["TOKENIZERS_PARALLELISM"] = parallelism
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(paths["byte-level"]), "25"],
        env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.stdout == f"{parallelism}\n", done.stderr[-2000:]


def test_memory_does_not_grow_with_unique_words(paths):
    tokenizer = opened(paths["byte-level"])
    page = 300_000
    sizes = []
    for round_number in range(6):
        words = " ".join(f"w{round_number}x{number * 7919}" for number in range(page // 10))
        tokenizer.encode_batch(TextBatch.from_texts([words] * 2))
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
    assert max(sizes[3:]) - sizes[2] < 64 << 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "no model with a vocab"),
        (b"[" * 1_000_000, "not valid JSON"),
        (b'{"model":' * 100_000, "not valid JSON"),
        (b'{"model": {"vocab": 3}}', "neither a list nor an object"),
        (b'{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}', "token id -1"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 4294967295}, "merges": []}}', "token id 4294967295"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 99999999999999999999}, "merges": []}}', "token id"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 1.5}, "merges": []}}', "token id 1.5"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}}', "cannot open"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]}}', "cannot open"),
        (b'{"model": {"type": "Magic", "vocab": {"a": 0}}}', "cannot open"),
        (b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}', "empty vocabulary|cannot open"),
        (b'{"model": {"type": "Unigram", "vocab": [["a"]]}}', "cannot open"),
        (b'{"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 9}}', "cannot open"),
    ],
)  # fmt: skip
def test_what_is_no_tokenizer_is_refused(tmp_path, content, message):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=message) as caught:
        opened(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_is_refused(paths, kind, tmp_path):
    content = paths[kind].read_bytes()
    path = tmp_path / "tokenizer.json"
    for stop in range(0, len(content) - 1, len(content) // 60 + 1):
        path.write_bytes(content[:stop])
        with pytest.raises(DamagedError):
            opened(path)


@pytest.mark.parametrize("pattern", ["(a+)+$", r"(\w+\s?)+$"])
def test_a_pattern_that_backtracks_without_end_costs_a_document(folder, pattern):
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    steps = {"type": "Sequence", "pretokenizers": [split, level]}
    tokenizer = opened(changed(folder, pre_tokenizer=steps))
    with pytest.raises(DocumentError, match="gave up on document 1 of the batch"):
        tokenizer.encode_batch(TextBatch.from_texts(["fine", "a" * 5000 + "!"]))


def test_a_normalizer_that_fills_memory_is_refused(folder):
    bomb = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10_000}
    with pytest.raises(DamagedError, match=r"10,000 characters for one match"):
        opened(changed(folder, normalizer={"type": "Sequence", "normalizers": [bomb]}))


def test_no_code_of_a_model_is_ever_run(folder):
    remote = {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"}
    write(folder, "tokenizer_config.json", remote)
    write(folder, "evil.py", "raise SystemExit('ran')")
    assert opened(folder).vocab_size
    opened(folder).save(folder / "saved")
    saved = sorted(path.name for path in (folder / "saved").iterdir())
    assert saved == ["tokenizer.json", "tokenizer_config.json"]


def test_names_that_lead_nowhere(tmp_path, paths):
    for name in (tmp_path / "none", "./none", "/no/where/tokenizer.json", "a/b/c", "", "none.json"):
        with pytest.raises(UsageError, match="hf:openai-community/gpt2"):
            opened(name)
    with pytest.raises(UsageError, match=r"holds no tokenizer\.json.*sentencepiece:FILE"):
        opened(tmp_path)
    with pytest.raises(UsageError, match="no native engine"):
        opened(paths["wordpiece"], TokenizerOptions(engine="native"))


@pytest.mark.parametrize("offline", ["1", "0"])
def test_a_hub_name_without_a_network(tmp_path, offline):
    code = (
        "from tokpack.errors import StorageError; from tokpack.protocols import TokenizerOptions\n"
        "from tokpack_hf.tokenizer import open_tokenizer\n"
        "try: open_tokenizer('org/name', TokenizerOptions())\n"
        "except StorageError as error: print(error)\n"
    )
    environment = os.environ | {
        "HF_HUB_OFFLINE": offline,
        "HF_HOME": str(tmp_path),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=20, check=False
    )
    assert "cannot fetch tokenizer.json of 'org/name'" in done.stdout, done.stderr
    assert all(word in done.stdout for word in ("HF_HUB_OFFLINE", "HF_HOME", "hf:./DIR"))


def test_a_model_in_the_cache_needs_no_network(folder, tmp_path):
    home = tmp_path / "home"
    snapshot = home / "hub" / "models--org--name" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    shutil.copy(folder / "tokenizer.json", snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    code = (
        "from tokpack.protocols import TokenizerOptions; from tokpack_hf.tokenizer import open_tokenizer\n"
        "print(open_tokenizer('org/name@main', TokenizerOptions(engine='reference')).content_digest)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout.strip() == opened(folder).content_digest, done.stderr


def test_a_file_that_cannot_be_read(folder):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (folder / "tokenizer.json").chmod(0)
    with pytest.raises(StorageError, match="cannot read"):
        opened(folder)
