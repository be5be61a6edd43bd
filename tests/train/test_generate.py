from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokpack.errors import UsageError
from tokpack.protocols import TokenizerOptions
from tokpack.tokenizers.byte import open_tokenizer
from tokpack.train.config import ModelConfig
from tokpack.train.generate import Sampling, draw, generate, stream_text
from tokpack.train.model import GPT
from tokpack.train.shape import complete


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    shape = ModelConfig(
        num_layers=2, hidden_size=32, num_heads=4, num_kv_heads=2, position="rope", init_std=0.3
    )
    return GPT(complete(shape, vocab_size=50, seq_len=24)).train()


def written(
    model: GPT, sampling: Sampling, *, seed: int = 0, prompt: tuple[int, ...] = (3, 1, 4)
) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return list(generate(model, prompt, sampling, vocab_size=50, seq_len=24, generator=generator))


def test_greedy_text_is_what_the_whole_model_says(model: GPT) -> None:
    tokens = [3, 1, 4]
    for token in written(model, Sampling(max_tokens=20, temperature=0)):
        with torch.no_grad():
            assert token == int(model(torch.tensor([tokens]))[0, -1].argmax())
        tokens.append(token)
    assert len(tokens) == 23
    assert model.training  # left as it was


def test_goes_on_beyond_the_context_and_never_writes_padding(model: GPT) -> None:
    tokens = written(model, Sampling(max_tokens=100, temperature=2.0), prompt=tuple(range(40)))
    assert len(tokens) == 100
    assert max(tokens) < 50


def test_same_seed_same_text(model: GPT) -> None:
    sampling = Sampling(max_tokens=15, temperature=1.0)
    assert written(model, sampling, seed=5) == written(model, sampling, seed=5)
    assert written(model, sampling, seed=5) != written(model, sampling, seed=6)


def test_ends_at_the_stop_id(model: GPT) -> None:
    free = written(model, Sampling(max_tokens=20, temperature=0))
    cut = written(model, Sampling(max_tokens=20, temperature=0, stop_id=free[3]))
    assert cut == free[: free.index(free[3])]


def draws(sampling: Sampling, count: int = 600) -> Counter[int]:
    logits = torch.log(torch.tensor([0.4, 0.3, 0.2, 0.06, 0.04]))
    generator = torch.Generator().manual_seed(1)
    return Counter(draw(logits.clone(), sampling, generator) for _ in range(count))


def test_what_may_be_drawn() -> None:
    assert set(draws(Sampling(temperature=1.0))) == {0, 1, 2, 3, 4}
    assert set(draws(Sampling(temperature=1.0, top_k=2))) == {0, 1}
    assert set(draws(Sampling(temperature=1.0, top_p=0.39))) == {0}
    assert set(draws(Sampling(temperature=1.0, top_p=0.41))) == {0, 1}
    assert set(draws(Sampling(temperature=1.0, top_p=0.91))) == {0, 1, 2, 3}
    assert set(draws(Sampling(temperature=0))) == {0}
    even, plain = draws(Sampling(temperature=1.0)), draws(Sampling(temperature=0.25))
    assert plain[0] > even[0] + 100
    assert abs(even[0] / 600 - 0.4) < 0.08


def test_wrong_numbers_are_named() -> None:
    for wrong in ({"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_k": -1}, {"max_tokens": -1}):
        with pytest.raises(UsageError):
            Sampling(**wrong)
    with pytest.raises(UsageError, match="prompt is empty"):
        written(GPT(complete(ModelConfig(), vocab_size=5, seq_len=4)), Sampling(), prompt=())


@given(st.binary(max_size=40))
def test_streamed_pieces_are_the_text(content: bytes) -> None:
    tokenizer = open_tokenizer("", TokenizerOptions())
    pieces = list(stream_text(tokenizer, iter(content)))
    assert "".join(pieces) == content.decode("utf-8", errors="replace")


def test_half_a_character_is_not_shown() -> None:
    tokenizer = open_tokenizer("", TokenizerOptions())
    assert list(stream_text(tokenizer, iter("aß€😀!".encode()))) == ["a", "ß", "€", "😀", "!"]
