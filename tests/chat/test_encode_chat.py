"""Chat data through `encode`: records of a source, any tokenizer, masks within files or beside them."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tokpack
from tokpack.dataset.verify import verify_dataset
from tokpack.errors import DamagedError, DocumentError, StorageError, UsageError
from tokpack.packed_rows.run import pack_dataset
from tokpack.protocols import SourceOptions
from tokpack.sources import jsonl

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
)
#: Only what the assistant says is marked.
ANSWERS = (
    "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
)


def talk(*contents: str) -> dict[str, object]:
    roles = ("user", "assistant") * len(contents)
    return {
        "messages": [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]
    }


def write(folder, *records):
    path = folder / "talks.jsonl"
    path.write_bytes(b"\n".join(r if isinstance(r, bytes) else json.dumps(r).encode() for r in records))
    return path


def encoded(path, **options):
    asked = {"tokenizer": "byte", "format": "jsonl", "messages_field": "messages", "chat_template": ANSWERS}
    dataset = tokpack.encode(path, path.parent / "out", overwrite=True, **asked | options)
    documents = []
    for batch in dataset["train"].batches():
        for index in range(len(batch)):
            part = slice(int(batch.offsets[index]), int(batch.offsets[index + 1]))
            mask = batch.columns["loss_mask"][part].astype(bool)
            tokens = batch.tokens[part]
            documents.append(
                (
                    bytes(tokens[tokens < 256].tolist()).decode(),
                    bytes(tokens[mask & (tokens < 256)].tolist()).decode(),
                )
            )
    return documents


def test_a_tokenizer_that_knows_no_spans(tmp_path):
    path = write(tmp_path, talk("hé", "ja 🜚"), talk("a"), talk("b", "c", "d", "é"))
    assert encoded(path) == [
        ("[user]hé[assistant]ja 🜚", "ja 🜚"),
        ("[user]a", ""),
        ("[user]b[assistant]c[user]d[assistant]é", "cé"),
    ]


@pytest.mark.parametrize("name", ["bin", "npy"])
def test_a_mask_beside_the_tokens(tmp_path, name):
    path = write(tmp_path, talk("hé", "ja"), talk("a"), talk("b", "c"))
    expected = "[user]hé[assistant]ja|[user]a|[user]b[assistant]c|".encode()
    # End-of-text is trained where the assistant spoke last.
    trained = " " * 20 + "ja|" + " " * 26 + "c|"
    assert encoded(path, format=name) == encoded(path, format="jsonl")
    dataset = tokpack.encode(
        path, tmp_path / name, tokenizer="byte", format=name, messages_field="messages",
        chat_template=ANSWERS, eos=True,
    )  # fmt: skip
    file = tmp_path / name / f"train.{name}"
    tokens = np.fromfile(file, np.uint16) if name == "bin" else np.load(file)
    assert bytes(np.where(tokens < 256, tokens, ord("|")).tolist()) == expected
    mask = np.load(tmp_path / name / "train.loss_mask.npy")
    assert mask.dtype == np.uint8
    assert mask.tolist() == dataset["train"].loss_mask.read(0, len(mask)).tolist()
    assert bytes(np.where(mask, np.frombuffer(expected, np.uint8), ord(" ")).tolist()).decode() == trained
    assert verify_dataset(dataset.path).findings == ()
    packed = pack_dataset(dataset, tmp_path / "packed", seq_len=51, format_name="npy", shuffle=False)
    rows, counts = (np.load(tmp_path / f"packed/{column}.npy") for column in ("input_ids", "loss_mask"))
    assert packed.ledger.rows == len(rows) == 1
    assert rows[0][counts[0] == 1].tolist() == [*b"ja", 256, *b"c", 256]
    with (tmp_path / name / "train.loss_mask.npy").open("r+b") as sidecar:
        sidecar.seek(-1, 2)
        sidecar.write(b"\x01" if not mask[-1] else b"\x00")
    assert [finding.path for finding in verify_dataset(dataset.path).findings] == ["train.loss_mask.npy"]
    (tmp_path / name / "train.loss_mask.npy").unlink()
    with pytest.raises(DamagedError, match=r"train.loss_mask.npy is missing"):
        tokpack.open_dataset(dataset.path)["train"].loss_mask.read(0, 1)


def test_commands_show_the_mask(tmp_path, tokpack):
    path = write(tmp_path, talk("who?", "a cat"), talk("who else?", "a dog"))
    (tmp_path / "t.jinja").write_text(ANSWERS)
    chat = ["--messages-field", "messages", "--chat-template", tmp_path / "t.jinja"]
    made = tokpack("encode", path, "-t", "byte", *chat, "-o", tmp_path / "out")
    assert made.returncode == 0, made.stderr
    assert "columns    tokens, loss_mask\n" in tokpack("info", tmp_path / "out").stdout
    asked = ["explain", tmp_path / "out", "--sampler", "sliding-window", "--seq-len", 30, "--seed", 1]
    shown = tokpack(*asked, "--sampler-option", "shuffle=false")
    assert shown.returncode == 0, shown.stderr
    assert "  loss     on 5 of 26 tokens\n  │ a cat\n" in shown.stdout
    assert "  loss     on 0 of 5 tokens\n" in shown.stdout
    pieces = json.loads(tokpack(*asked, "--sampler-option", "shuffle=false", "--json").stdout)["pieces"]
    assert [piece["loss_text"] for piece in pieces] == ["a cat", ""]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_and_length_limits_keep_masks_with_their_tokens(tmp_path, workers):
    path = write(tmp_path, *[talk(f"question {number}", "ja" * number) for number in range(40)])
    whole = encoded(path, workers=workers)
    parts = encoded(path, workers=workers, max_length=7, too_long="split")
    for index in (0, 1):
        assert "".join(part[index] for part in parts) == "".join(document[index] for document in whole)
    assert tokpack.open_dataset(tmp_path / "out").manifest.columns == ["loss_mask"]


def test_pairs(tmp_path):
    path = write(tmp_path, {"q": "1+1=", "a": "2", "x": None}, {"q": "ö", "a": "ü"})
    options = {"messages_field": None, "chat_template": None, "prompt_field": "q", "completion_field": "a"}
    assert encoded(path, **options) == [("1+1=2", "2"), ("öü", "ü")]


def test_broken_records_are_counted(tmp_path):
    user = b'"messages": [{"role": "user", "content": '
    records = [
        talk("a", "b"),
        {"text": "no messages"},
        b"{",
        b'{"messages": [1]}',
        b'{"messages": "\\ud800"}',
        {"messages": []},
        json.dumps(talk("\ud83d", "x")).encode(),
        b"{" + user + b'"\xff"}]}',
        b'{"messages": ' + b"[" * 100_000 + b"}",
        b'{"other": "\\ud800", ' + user + b'"c"}]}',
    ]
    path = write(tmp_path, *records)
    assert [text for text, _ in encoded(path, on_error="skip")] == ["[user]a[assistant]b", "[user]c"]
    skipped = tokpack.open_dataset(tmp_path / "out").manifest.ledger.skipped
    assert skipped == {
        "bad-chat": 2, "bad-json": 2, "invalid-utf8": 1, "lone-surrogate": 2, "missing-field": 1,
    }  # fmt: skip
    replaced = [text for text, _ in encoded(path, on_error="replace")]
    assert replaced == ["[user]a[assistant]b", "[user]\ufffd[assistant]x", "[user]\ufffd", "[user]c"]
    with pytest.raises(DocumentError, match=r"missing-field .*'messages'"):
        encoded(write(tmp_path, {"text": "no messages"}))


def test_requests_that_make_no_sense(tmp_path):
    path = write(tmp_path, talk("a", "b"))
    wrong = [
        ({"chat_template": None}, "byte has no chat template; give one: --chat-template FILE"),
        ({"prompt_field": "p"}, "--completion-field go together"),
        ({"prompt_field": "p", "completion_field": "c"}, "either conversations"),
        ({"messages_field": None}, "either conversations"),
        ({"chat_template": "{% if %}"}, "no valid Jinja"),
        ({"input_format": "text"}, "text input has no fields.*jsonl"),
        ({"add_special_tokens": True}, "byte puts nothing around documents"),
        ({"padding": "max_length"}, "needs --max-length"),
        ({"padding": "max_length", "max_length": 9}, "byte has no PAD token.*--pad-id"),
        ({"padding": "max_length", "max_length": 9, "pad_id": 999}, "byte has no id 999"),
    ]
    for options, message in wrong:
        with pytest.raises(UsageError, match=message):
            encoded(path, **options)


def test_template_files(tmp_path):
    from tokpack.chat.options import read_template

    file = tmp_path / "t.jinja"
    file.write_text(ANSWERS)
    assert read_template(file) == ANSWERS
    file.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="is no text"):
        read_template(file)
    file.write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(UsageError, match="larger than"):
        read_template(file)
    with pytest.raises(StorageError, match="--chat-template"):
        read_template(tmp_path / "none")


def test_records_keep_their_fields_as_they_stand(tmp_path):
    path = write(tmp_path, b'{"b": 1e400, "x": "unseen", "a": [ {"k":  "\\u00e9"} ]}', {"a": 1})
    source = jsonl.open_source(SourceOptions(record_fields=("a", "b"), on_error="skip"))
    assert source.describe(str(path)) == "field 'a' of each line"
    (part,) = source.plan(str(path), slice_bytes=1 << 20)
    texts = [json.loads(text) for batch in source.read(part) for text in batch.texts]
    assert texts[-1] == {"a": 1}
