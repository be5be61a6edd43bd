"""The texts of ``shared/data`` as documents, and what the reference libraries make of them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import zstandard

from tokpack.batches import TextBatch, TokenBatch
from tokpack.testing.shared import shared_data

__all__ = ["assert_expected", "expected_answers", "expected_edges", "shared_texts"]


@cache
def expected_answers(tokenizer: str) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Return, for each text and mode (ordinary, special, template, packed), what ``tokenizer`` must give."""
    answers = json.loads((shared_data() / "expected.json").read_bytes())
    return dict(answers["tokenizers"][tokenizer])


def expected_edges(tokenizer: str) -> list[dict[str, Any]]:
    """Return ``id``, the number ``n`` of ids and the first 200 ``ids`` of each edge document."""
    lines = (shared_data() / "expected_ids" / f"edge.{tokenizer}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line]


@cache
def shared_texts(name: str) -> TextBatch:
    """Return the documents of one text, read by the rules of the data's README and by none of our sources."""
    manifest = json.loads((shared_data() / "manifest.json").read_bytes())
    entry = next(text for text in manifest["texts"] if text["name"] == name)
    rule, _, field = entry["rule"].partition(":")
    path = shared_data() / entry["file"]
    documents = (
        _columnar(path, field) if rule in ("parquet", "arrow") else _READERS[rule](_bytes(path), field)
    )
    return TextBatch.from_texts([_settled(document) for document in documents])


def assert_expected(batch: TokenBatch, answer: Mapping[str, Any]) -> None:
    """Compare ids and document lengths with an answer of `expected_answers`."""
    assert len(batch.tokens) == answer["tokens"]
    if "doc_lens_sha256" in answer:
        assert _sha256(batch.lengths.astype("<u4").tobytes()) == answer["doc_lens_sha256"]
    dtype = "<u2" if answer.get("dtype") == "uint16" else "<u4"
    assert _sha256(batch.tokens.astype(dtype).tobytes()) == answer["sha256"]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _bytes(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(content)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)).read()
    return content


def _settled(text: str) -> str:
    # A lone surrogate, possible in JSON only, counts as U+FFFD.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _whole(content: bytes, field: str) -> Iterator[str]:
    yield content.decode(errors="replace")


def _lines(content: bytes, field: str) -> Iterator[str]:
    lines = content.split(b"\n")
    for line in lines if lines[-1] else lines[:-1]:
        yield line.decode(errors="replace")


def _separated(content: bytes, field: str) -> Iterator[str]:
    return (part.decode(errors="replace") for part in content.split(b"<|endoftext|>") if part)


def _objects(content: bytes) -> Iterator[Any]:
    return (json.loads(line) for line in content.split(b"\n") if line.strip())


def _json_lines(content: bytes, field: str) -> Iterator[str]:
    for item in _objects(content):
        yield from [item[field]] if isinstance(item[field], str) else item[field]


def _json_list(content: bytes, field: str) -> Iterator[str]:
    return (item[field] if field else item for item in json.loads(content))


def _base64(content: bytes, field: str) -> Iterator[str]:
    return (base64.b64decode(item["b64"]).decode(errors="replace") for item in _objects(content))


def _parts(content: Any) -> list[str]:
    if isinstance(content, list):
        return [part["value"] for part in content]
    return [] if content is None else [content]


def _chat_contents(content: bytes, field: str) -> Iterator[str]:
    for item in _objects(content):
        for message in item["messages"]:
            yield from _parts(message["content"])


def _chatml(content: bytes, field: str) -> Iterator[str]:
    for item in _objects(content):
        yield "".join(
            f"<|im_start|>{message['role']}\n{''.join(_parts(message['content']))}<|im_end|>\n"
            for message in item["messages"]
        )


def _columnar(path: Path, field: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        table = pq.read_table(path, columns=[field])
    else:
        try:
            table = pa.ipc.open_file(str(path)).read_all()
        except pa.ArrowInvalid:
            table = pa.ipc.open_stream(path.read_bytes()).read_all()
    return (value for value in table[field].to_pylist() if value is not None)


_READERS = {
    "text": _whole,
    "lines": _lines,
    "endoftext": _separated,
    "jsonl": _json_lines,
    "json-list": _json_list,
    "b64": _base64,
    "chat-contents": _chat_contents,
    "chatml": _chatml,
}
