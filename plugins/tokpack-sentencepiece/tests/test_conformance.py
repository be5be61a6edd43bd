"""Trained models of both kinds against tokpack's own rules."""

from __future__ import annotations

import pytest

from tokpack.batches import TextBatch
from tokpack.protocols import TrainingOptions
from tokpack.testing import PluginConformance, TokenizerConformance
from tokpack_sentencepiece.train import train_tokenizer

TEXT = "The cat sat on the mat, and the dog sat on the cat.\nÄpfel und Öl 12345 kosten 日本 Geld! "


class TestPlugin(PluginConformance):
    module = "tokpack_sentencepiece.plugin"


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def trained(request):
    options = TrainingOptions(vocab_size=320, model=request.param, special_tokens=("</s>", "<|im_end|>"))
    return train_tokenizer([TextBatch.from_texts([TEXT * 20])], options)


class TestTokenizer(TokenizerConformance):
    reference = "sentencepiece:"

    @pytest.fixture
    def tokenizer(self, trained):
        return trained
