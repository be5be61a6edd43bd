"""SentencePiece models: recorded answers, the library itself, and files that are not what they say."""

from __future__ import annotations

import io
import pickle
import random
import struct
import subprocess
import sys

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from tokpack import encode
from tokpack.batches import TextBatch
from tokpack.dataset.verify import verify_dataset
from tokpack.errors import DamagedError, SpecialTokenError, UsageError
from tokpack.protocols import SpanTokenizer, TokenizerOptions, TrainingOptions
from tokpack.testing.expected import assert_expected, expected_answers, expected_edges, shared_texts
from tokpack.testing.shared import shared_data
from tokpack.tokenizers.rows import surround_batch
from tokpack_sentencepiece.model import WITHOUT_DUMMY_PREFIX, read_model
from tokpack_sentencepiece.tokenizer import SentencePieceTokenizer, open_tokenizer
from tokpack_sentencepiece.train import train_tokenizer

FILES = {"llama2": "llama2/tokenizer.model", "spm_unigram_1k": "spm_unigram_1k/test_model.model"}
TEXT = "The cat sat on the mat, and the dog sat on the cat.\nÄpfel und Öl 12345 kosten 日本 Geld! "


def opened(name):
    return open_tokenizer(str(shared_data() / "tokenizers" / FILES[name]), TokenizerOptions())


def trained(model="bpe", **options):
    batches = [TextBatch.from_texts([TEXT * 20])]
    return train_tokenizer(batches, TrainingOptions(**{"vocab_size": 320, "model": model} | options))


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def small(request):
    return trained(request.param, special_tokens=("<|endoftext|>", "<|im_end|>"))


@pytest.mark.parametrize("name", FILES)
def test_every_text_in_every_mode(name):
    tokenizer = opened(name)
    for text, answers in expected_answers(name).items():
        texts = shared_texts(text)
        batch = tokenizer.encode_batch(texts)
        assert_expected(batch, answers["ordinary"])
        assert_expected(surround_batch(batch, suffix=(tokenizer.eos_id,)), answers["packed"])
        exact = sum(
            tokenizer.decode_bytes(document) == source.encode()
            for document, source in zip(batch, texts, strict=True)
        )
        assert exact >= answers["ordinary"]["exact_roundtrips"]


@pytest.mark.parametrize("name", FILES)
def test_edge_documents_id_by_id(name):
    batch = opened(name).encode_batch(shared_texts("edge"))
    for document, answer in zip(batch, expected_edges(name), strict=True):
        assert (answer["id"], document[:200].tolist(), len(document)) == (
            answer["id"],
            answer["ids"],
            answer["n"],
        )


def test_the_contract(small, tmp_path):
    assert isinstance(small, SpanTokenizer)
    assert small.eos_id == small.special_tokens["<|endoftext|>"]
    assert small.pad_id is None
    assert small.bos_id == small.special_tokens["<s>"]
    small.save(tmp_path / "saved")
    texts = TextBatch.from_texts(["", "a cat", TEXT, " two  spaces ", "\x00 nul 🜚"])
    for again in (
        open_tokenizer(str(tmp_path / "saved"), TokenizerOptions()),
        pickle.loads(pickle.dumps(small)),
    ):
        assert again.content_digest == small.content_digest
        assert again.encode_batch(texts).tokens.tolist() == small.encode_batch(texts).tokens.tolist()
    assert small.encode_batch(texts).tokens.dtype == np.uint16
    assert small.encode_batch(TextBatch.from_texts([])).offsets.tolist() == [0]
    with pytest.raises(DamagedError, match="token id 99,999 is not in the vocabulary"):
        small.decode_bytes([99_999])


@given(text=st.text(max_size=60).filter(lambda text: "▁" not in text))
@settings(max_examples=150, deadline=None)
def test_what_we_train_gives_back_every_text(small, text):
    texts = TextBatch.from_texts([text])
    batch = small.encode_spans(texts)
    assert batch.tokens.tolist() == small.encode_batch(texts).tokens.tolist()
    assert small.decode_bytes(batch.tokens) == text.encode()
    starts, stops = batch.columns["start"], batch.columns["stop"]
    covered = np.zeros(texts.nbytes, dtype=bool)
    for start, stop in zip(starts, stops, strict=True):
        assert 0 <= start <= stop <= texts.nbytes
        covered[start:stop] = True
    assert covered.all()


@pytest.mark.parametrize("name", FILES)
def test_decoding_is_the_libraries_own(name):
    tokenizer = opened(name)
    library = sentencepiece.SentencePieceProcessor(model_file=str(shared_data() / "tokenizers" / FILES[name]))
    texts = shared_texts("edge")
    for document in tokenizer.encode_batch(texts):
        ids = document.tolist()
        assert tokenizer.decode_bytes(document).decode() == library.decode(ids)


def test_byte_pieces_are_bytes():
    tokenizer = trained()
    ids = tokenizer.encode_batch(TextBatch.from_texts(["x🜚"])).tokens
    assert tokenizer.decode_bytes(ids) == "x🜚".encode()
    assert tokenizer.decode_bytes(ids[:-1]) == "x🜚".encode()[:-1]


def test_control_pieces_are_text_or_parsed_or_refused(small):
    texts = TextBatch.from_texts(["a cat", "a cat<|im_end|> sat<|endoftext|>", "<|im_end|>"])
    end, eos = small.special_tokens["<|im_end|>"], small.eos_id
    plain = small.encode_batch(texts)
    assert not np.isin(plain.tokens, [end, eos]).any()
    parsed = small.encode_batch(texts, special="parse")
    first = plain[0].tolist()
    assert parsed[0].tolist() == first
    assert parsed[1].tolist()[: len(first) + 1] == [*first, end]
    assert parsed[1][-1] == eos
    assert parsed[2].tolist() == [end]
    # What follows a control piece begins with its own space and no other.
    assert [small.decode_bytes(document) for document in parsed] == [text.encode() for text in texts]
    spans = small.encode_spans(texts, special="parse")
    assert spans.tokens.tolist() == parsed.tokens.tolist()
    place = 2 * len(first)
    assert (spans.columns["start"][place], spans.columns["stop"][place]) == (5, 15)
    with pytest.raises(
        SpecialTokenError, match=r"spells the special token '<\|im_end\|>' at byte 5"
    ) as caught:
        small.encode_batch(texts, special="error")
    assert caught.value.document == 1


def test_training_is_the_same_every_time_and_refuses_what_it_cannot():
    assert trained("unigram").content_digest == trained("unigram").content_digest
    for options in ({"pattern": "cl100k"}, {"tie_rule": "hf"}, {"min_frequency": 2}, {"max_token_length": 8}):
        with pytest.raises(UsageError, match="sentencepiece has no --"):
            trained(**options)
    with pytest.raises(UsageError, match="--model bpe or unigram"):
        trained("words")
    with pytest.raises(UsageError, match="no text to train on"):
        train_tokenizer([TextBatch.from_texts([""])], TrainingOptions(vocab_size=300))
    with pytest.raises(UsageError, match=r"cannot train this: .*--vocab-size"):
        trained(vocab_size=10)
    assert trained(vocab_size=100_000).vocab_size < 1000


def test_nothing_of_a_long_line_is_dropped():
    word = "zyxwvut"
    tokenizer = train_tokenizer(
        [TextBatch.from_texts([f"{word} " * 20_000, "ab " * 50])], TrainingOptions(vocab_size=290)
    )
    assert len(tokenizer.encode_batch(TextBatch.from_texts([word])).tokens) < len(word)


def test_names_that_lead_nowhere(tmp_path):
    with pytest.raises(UsageError, match="there is no"):
        open_tokenizer(str(tmp_path / "none.model"), TokenizerOptions())
    with pytest.raises(UsageError, match=r"holds no \.model file"):
        open_tokenizer(str(tmp_path), TokenizerOptions())
    for name in ("a.model", "b.model"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UsageError, match=r"holds a\.model, b\.model; name one file"):
        open_tokenizer(str(tmp_path), TokenizerOptions())
    with pytest.raises(DamagedError, match=r"a\.model has 0 pieces"):
        open_tokenizer(str(tmp_path / "a.model"), TokenizerOptions())
    with pytest.raises(UsageError, match="no native engine"):
        open_tokenizer(str(tmp_path / "a.model"), TokenizerOptions(engine="native"))


@pytest.fixture(scope="module")
def normalizing():
    """A model with a normalizer table."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT.strip()] * 20), model_writer=model, vocab_size=60,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


def test_a_cut_model_is_refused(normalizing):
    read_model(normalizing, "m.model")
    refused = 0
    for stop in [*range(200), *range(200, len(normalizing), 997)]:
        try:
            SentencePieceTokenizer(normalizing[:stop], "m.model")
        except DamagedError:
            refused += 1
    # Cut between two fields, what is left is a smaller model.
    assert refused > 300


@pytest.mark.parametrize(
    "value", [b"\x00", b"hello", b"\xff" * 99, b"\x0a\xff\xff\xff\xff\x7f", b"[" * 999, b"\x0f"]
)
def test_what_is_no_model_is_refused(value):
    with pytest.raises(DamagedError, match=r"m\.model"):
        SentencePieceTokenizer(value, "m.model")


def test_the_digest_is_of_what_decides_ids(normalizing):
    digest = read_model(normalizing, "m").digest
    # Another self-test and another history of the training are the same tokenizer.
    history = bytes([2 << 3 | 2, 3, 1 << 3 | 2, 1, ord("x"), 4 << 3 | 2, 0])
    assert read_model(normalizing + history, "m").digest == digest
    assert read_model(normalizing + WITHOUT_DUMMY_PREFIX, "m").digest != digest
    assert read_model(normalizing.replace(b"cat", b"kat", 1), "m").digest != digest


FLIP = """
import random, sys
from tokpack.batches import TextBatch
from tokpack.errors import TokpackError
from tokpack_sentencepiece.tokenizer import SentencePieceTokenizer
content, seed = open(sys.argv[1], "rb").read(), int(sys.argv[2])
words = "The ﬁrst Ä ｆｕｌｌ ⅷ ㍿ e\\u0301 \\u3000 cat"
texts = TextBatch.from_texts([words + chr(point) for point in range(160, 3000, 61)])
for number in range(120):
    rng, wrong = random.Random(seed * 1000 + number), bytearray(content)
    for _ in range(rng.randint(1, 8)):
        wrong[rng.randrange(len(wrong))] = rng.randrange(256)
    try:
        tokenizer = SentencePieceTokenizer(bytes(wrong), "m")
        tokenizer.decode_bytes(tokenizer.encode_batch(texts).tokens)
    except TokpackError:
        pass
print("lived")
"""


def test_flipped_bytes_never_take_the_process_down(normalizing, tmp_path):
    path = tmp_path / "m.model"
    path.write_bytes(normalizing)
    done = subprocess.run(
        [sys.executable, "-c", FLIP, str(path), str(random.Random(7).randrange(1000))],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.stdout == "lived\n", done.stderr[-2000:]


def with_pieces(model: bytes, pieces: list[str]) -> bytes:
    """Append pieces to a serialized ModelProto: field 1, of a text (field 1) and a score (field 2)."""
    added = []
    for piece in pieces:
        text = piece.encode()
        body = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", -5.0)
        added.append(b"\x0a" + bytes([len(body)]) + body)
    return model + b"".join(added)


def test_a_vocabulary_of_256_thousand_pieces(tmp_path):
    """As large as Gemma's: ids beyond 65,535 in a dataset of uint32, equal to the library's, and back."""
    trained("unigram").save(tmp_path)
    (file,) = tmp_path.glob("*.model")
    large = tmp_path / "large.model"
    large.write_bytes(with_pieces(file.read_bytes(), [f"▁w{number}" for number in range(256_000)]))
    tokenizer = open_tokenizer(str(large), TokenizerOptions())
    library = sentencepiece.SentencePieceProcessor(model_file=str(large))
    assert tokenizer.vocab_size == library.vocab_size() > 256_000
    chance = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in chance.integers(0, 256_000, 20)) for _ in range(50)]
    found = [document.tolist() for document in tokenizer.encode_batch(TextBatch.from_texts(texts))]
    assert found == library.encode(texts)
    assert max(max(document) for document in found) > 200_000
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    dataset = encode(
        tmp_path / "texts.txt", tmp_path / "out", tokenizer=f"sentencepiece:{large}", text_split="lines"
    )
    stored = np.fromfile(tmp_path / "out/train.bin", "<u4")
    assert dataset.manifest.dtype == "uint32"
    assert stored.tolist() == [token for document in found for token in [*document, tokenizer.eos_id]]
    assert verify_dataset(dataset.path).findings == ()
    first = dataset["train"].document(0)[:-1]
    assert dataset.open_tokenizer().decode_bytes(first).decode() == texts[0]
