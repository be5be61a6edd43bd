"""Core's own formats, sources, samplers and tokenizers, by the kit that every plugin author uses."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import numpy as np
import zstandard
from hypothesis import strategies as st

from tokpack.protocols import SourceOptions
from tokpack.testing import (
    ExecutorConformance,
    FormatConformance,
    PluginConformance,
    SamplerConformance,
    SourceConformance,
    TokenizerConformance,
)
from tokpack.testing.formats import GOLDEN_DOCUMENTS

GOLDEN = np.array([token for document in GOLDEN_DOCUMENTS for token in document], dtype="<u2")


class TestBuiltin(PluginConformance):
    module = "tokpack.builtin"


class TestSerial(ExecutorConformance):
    name = "serial"


class TestProcesses(ExecutorConformance):
    name = "processes"


class TestByte(TokenizerConformance):
    reference = "byte"


class TestBin(FormatConformance):
    name = "bin"
    golden = bytes.fromhex("01000200 0000ffff 0700 0201 0201 0201 0201 0201")


def as_npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class TestNpy(FormatConformance):
    name = "npy"
    golden = as_npy(GOLDEN)


class TestJsonlFormat(FormatConformance):
    name = "jsonl"


class TestJsonlGzFormat(FormatConformance):
    name = "jsonl-gz"


class TestJsonlZstFormat(FormatConformance):
    name = "jsonl-zst"


class TestLines(SourceConformance):
    name, suffix = "text", ".txt"
    options = SourceOptions(split="lines")
    texts = st.text(max_size=20).filter(lambda text: "\n" not in text)

    def write(self, path, documents):
        path.write_bytes("".join(f"{text}\n" for text in documents).encode())


class TestSeparated(SourceConformance):
    name, suffix = "text", ".txt"
    options = SourceOptions(split="separator")
    holds_empty = False

    def write(self, path, documents):
        path.write_bytes("<|endoftext|>".join(documents).encode())


class TestGzippedLines(TestLines):
    suffix = ".txt.gz"

    def write(self, path, documents):
        path.write_bytes(gzip.compress("".join(f"{text}\n" for text in documents).encode()))


class TestJsonl(SourceConformance):
    name, suffix = "jsonl", ".jsonl"
    options = SourceOptions(text_field="doc.body")

    def write(self, path: Path, documents: list[str]) -> None:
        path.write_bytes(self.lines(documents))

    @staticmethod
    def lines(documents):
        lines = [json.dumps({"id": 1, "doc": {"body": text, "x": []}}) for text in documents]
        return "".join(f"{line}\n" for line in lines).encode()


class TestZstdJsonl(TestJsonl):
    suffix = ".jsonl.zst"

    def write(self, path: Path, documents: list[str]) -> None:
        path.write_bytes(zstandard.ZstdCompressor().compress(self.lines(documents)))


class TestRandomBlock(SamplerConformance):
    name = "random-block"


class TestRandomBlockWithReplacement(SamplerConformance):
    name = "random-block"
    options = {"epoch": "replacement"}  # noqa: RUF012  the class is data


class TestSlidingWindow(SamplerConformance):
    name = "sliding-window"


class TestPacked(SamplerConformance):
    name = "packed"
