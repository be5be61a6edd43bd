"""Tokenizers of every kind against tokpack's own rules."""

from __future__ import annotations

import pytest

from tokpack.protocols import TokenizerOptions
from tokpack.testing import PluginConformance, TokenizerConformance
from tokpack_hf.tokenizer import open_tokenizer


class TestPlugin(PluginConformance):
    module = "tokpack_hf.plugin"


@pytest.fixture(params=["byte-level", "wordpiece", "unigram", "llama"])
def path(request, paths):
    return paths[request.param]


class TestTokenizer(TokenizerConformance):
    reference = "hf:"
    options = TokenizerOptions(engine="reference")

    @pytest.fixture
    def tokenizer(self, path):
        return open_tokenizer(str(path), self.options)


class TestWithNativeEngine(TokenizerConformance):
    reference = "hf:"
    options = TokenizerOptions(engine="auto")

    @pytest.fixture
    def tokenizer(self, paths):
        tokenizer = open_tokenizer(str(paths["byte-level"]), self.options)
        if tokenizer.engine.startswith("tokenizers"):
            pytest.skip("no native engine is installed")
        return tokenizer
