"""The contract, on a small ranks file; no network and no shared data needed."""

from __future__ import annotations

import base64
import json

import pytest

from tokpack.protocols import TokenizerOptions
from tokpack.testing import PluginConformance, TokenizerConformance
from tokpack.tokenizers.opening import open_tokenizer

PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
MERGES = [b"th", b"the", b" t", b" the", b"in", b"ing", "é".encode(), b"  ", b"    "]


class TestTiktoken(TokenizerConformance):
    reference = "tiktoken:a-ranks-file"
    options = TokenizerOptions(engine="reference")

    @pytest.fixture
    def tokenizer(self, tmp_path):
        tokens = [*(bytes([byte]) for byte in range(256)), *MERGES]
        lines = [base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens)]
        (tmp_path / "tiny.tiktoken").write_bytes(b"".join(lines))
        settings = {"pattern": PATTERN, "special_tokens": {"<|endoftext|>": 300, "<|im_start|>": 301}}
        (tmp_path / "tiny.json").write_text(json.dumps(settings))
        return open_tokenizer(f"tiktoken:{tmp_path}/tiny.tiktoken", options=self.options)


class TestPlugin(PluginConformance):
    module = "tokpack_tiktoken.plugin"
