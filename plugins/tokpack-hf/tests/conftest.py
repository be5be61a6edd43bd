"""Small tokenizers of every kind, made by the tokenizers library itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXT = [
    "The cat sat on the mat, and the dog sat on the cat. it's 12345",
    "Äpfel und Öl kosten 日本 Geld!\n\n ok",
] * 9
SPECIAL = ["<|endoftext|>", "<|pad|>"]
ALPHABET = list("<>|/[]abUNKPDCLSEPunkpdclse")


@pytest.fixture(scope="session")
def make() -> Callable[[str], Tokenizer]:
    """Train one: ``byte-level`` is lossless, ``llama`` falls back to bytes, the others lose something."""
    return lambda kind: KINDS[kind]()


@pytest.fixture(scope="session")
def paths(make: Callable[[str], Tokenizer], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tokenizer.json of every kind."""
    folder = tmp_path_factory.mktemp("tokenizers")
    for kind in KINDS:
        make(kind).save(str(folder / f"{kind}.json"))
    return {kind: folder / f"{kind}.json" for kind in KINDS}


def _byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def _wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(
        TEXT,
        trainers.WordPieceTrainer(
            vocab_size=160, special_tokens=special, initial_alphabet=ALPHABET, show_progress=False
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9)
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        TEXT,
        trainers.UnigramTrainer(
            vocab_size=120,
            special_tokens=["<unk>", "</s>"],
            unk_token="<unk>",
            initial_alphabet=ALPHABET,
            show_progress=False,
        ),
    )
    return tokenizer


def _llama() -> Tokenizer:
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "a",
        "c",
        "t",
        "▁c",
        "at",
        "▁cat",
    ]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    merges = [("▁", "c"), ("a", "t"), ("▁c", "at")]
    tokenizer = Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True, dropout=0.5)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


KINDS = {"byte-level": _byte_level, "wordpiece": _wordpiece, "unigram": _unigram, "llama": _llama}
