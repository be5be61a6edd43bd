"""Chat data out of tables: the same documents and masks as from JSON lines, and the same problems named."""

from __future__ import annotations

import csv
import json

import pytest

import tokpack
from tokpack.encoding.api import encode
from tokpack.errors import DocumentError, UsageError

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{% generation %}{{ m.content }}{% endgeneration %}"
    "{% if m.note is defined %}({{ m.note }}){% endif %}{% endfor %}{{ tools | length if tools }}"
)
TALKS = [
    {"messages": [{"role": "user", "content": "hé"}, {"role": "assistant", "content": "ja 🜚", "note": "x"}]},
    {"messages": [{"role": "user", "content": "a"}], "tools": [{"name": "t"}]},
    {"messages": [{"role": "user", "content": "b" * 50}, {"role": "assistant", "content": "c"}] * 3},
]
PAIRS = [{"prompt": f"question {n},\n", "completion": 'ja "é" ' * n} for n in range(1, 40)]


def write_table(path, records):
    pa = pytest.importorskip("pyarrow")
    names = {name for record in records for name in record}
    records = [{name: record.get(name) for name in sorted(names)} for record in records]
    table = pa.Table.from_pylist(records)
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet").write_table(table, path, row_group_size=7)
        return str(path)
    if path.suffix == ".arrow":
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=7)
        return str(path)
    pytest.importorskip("datasets").Dataset.from_list(records).save_to_disk(path)
    return f"hf-datasets:{path}"


def write(path, records):
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, records)))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            rows = csv.DictWriter(file, ["id", *records[0]], restval="7", lineterminator="\n")
            rows.writeheader()
            rows.writerows(records)
    else:
        return write_table(path, records)
    return str(path)


def encoded(reference, output, **options):
    dataset = encode(reference, output, tokenizer="byte", format="bin", **options)
    return dataset["train"].fingerprint, dataset.manifest.ledger


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ""])
def test_conversations(tmp_path, suffix):
    chat = {"messages_field": "messages", "chat_template": TEMPLATE}
    expected = encoded(write(tmp_path / "talks.jsonl", TALKS), tmp_path / "expected", **chat)
    assert encoded(write(tmp_path / f"talks{suffix}", TALKS), tmp_path / "out", **chat) == expected
    assert tokpack.open_dataset(tmp_path / "out")["train"].loss_mask.read(0, 9).any()


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv", ""])
@pytest.mark.parametrize("workers", [1, 2])
def test_pairs(tmp_path, suffix, workers):
    chat = {"prompt_field": "prompt", "completion_field": "completion"}
    expected = encoded(write(tmp_path / "pairs.jsonl", PAIRS), tmp_path / "expected", **chat)
    reference = write(tmp_path / f"pairs{suffix}", PAIRS)
    assert encoded(reference, tmp_path / "out", workers=workers, **chat) == expected


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_problems_are_named_by_row(tmp_path, suffix):
    pa = pytest.importorskip("pyarrow")
    texts = [b"a", b"X\xffXX", b"", *[b"a"] * 200]
    roles = pa.array(["user", "user", None, *["user"] * 200])
    content = pa.Array.from_buffers(pa.string(), len(texts), pa.array(texts, pa.binary()).buffers())
    messages = pa.StructArray.from_arrays([roles, content], ["role", "content"])
    column = pa.ListArray.from_arrays(pa.array([0, None, 1, 2, 3, 203], pa.int32()), messages)
    path = tmp_path / f"talks{suffix}"
    table = pa.table({"messages": column})
    if suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    chat = {"messages_field": "messages", "chat_template": TEMPLATE, "max_document_bytes": 2000}
    with pytest.raises(
        DocumentError, match="invalid-utf8 in the document at row 2: byte 0xff at 1 of a text"
    ):
        encoded(str(path), tmp_path / "out", **chat)
    _, ledger = encoded(str(path), tmp_path / "out", on_error="skip", **chat)
    assert (ledger.read, ledger.encoded) == (5, 1)
    assert ledger.skipped == {"null": 1, "invalid-utf8": 1, "bad-chat": 1, "too-large": 1}
    with pytest.raises(UsageError, match="has no column 'talk'; its columns are: messages"):
        encoded(str(path), tmp_path / "no", messages_field="talk", chat_template=TEMPLATE)
