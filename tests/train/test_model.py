"""The model against `transformers`, and against itself in other ways of computing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tokpack.errors import DamagedError, UsageError
from tokpack.train.attention import CAUSAL, AttentionPlan, attend, plan_attention
from tokpack.train.config import ModelConfig
from tokpack.train.hf import export_hf, from_hf, import_hf, to_hf
from tokpack.train.model import GPT, KVCache
from tokpack.train.parsing import settings_from
from tokpack.train.presets import PRESETS, preset_values
from tokpack.train.shape import complete, count_parameters, padded_vocab_size

SEQ_LEN, VOCAB = 48, 203


def small(**values: Any) -> ModelConfig:
    shape = {"num_layers": 3, "hidden_size": 32, "num_heads": 4, "init_std": 0.2} | values
    return complete(ModelConfig(**shape), vocab_size=VOCAB, seq_len=SEQ_LEN)


LLAMA = {"norm": "rms", "position": "rope", "activation": "swiglu", "bias": False, "num_kv_heads": 2}
GEMMA = LLAMA | {
    "activation": "geglu",
    "norm_offset": True,
    "post_norm": True,
    "qk_norm": True,
    "scale_embedding": True,
    "sliding_window": 8,
    "global_every": 2,
    "rope_theta": 1e6,
    "rope_theta_local": 1e4,
    "head_dim": 16,
    "attention_scale": 24**-0.5,
    "tied": True,
}
SHAPES = {
    "gpt2": small(),
    "llama": small(**LLAMA, tied=False),
    "llama-tied": small(**LLAMA),
    "gemma3": small(**GEMMA),
}


def build(shape: ModelConfig) -> GPT:
    torch.manual_seed(1)
    model = GPT(shape).eval()
    with torch.no_grad():  # norms and biases other than at their first value, or a slip would not show
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def tokens(rows: int = 2, seq_len: int = SEQ_LEN) -> torch.Tensor:
    return torch.randint(0, VOCAB, (rows, seq_len), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.filterwarnings("ignore")  # of transformers' own imports
def test_logits_equal_transformers(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = build(SHAPES[name])
    export_hf(ours, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert type(theirs).__name__ in ("GPT2LMHeadModel", "LlamaForCausalLM", "Gemma3ForCausalLM")
    with torch.no_grad():
        expected = theirs(tokens()).logits
        logits = ours(tokens())
    assert expected.std() > 0.5  # the comparison is about something
    torch.testing.assert_close(logits[..., :VOCAB], expected, atol=1e-4, rtol=1e-4)
    assert torch.isneginf(logits[..., VOCAB:]).all()


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3"])
@pytest.mark.filterwarnings("ignore")
def test_imports_what_transformers_saved(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config, _ = to_hf(SHAPES[name], build(SHAPES[name]).state_dict())
    torch.manual_seed(3)
    kind = {"gpt2": "GPT2", "llama": "Llama", "gemma3": "Gemma3Text"}[name]
    config_class = getattr(transformers, f"{kind}Config")
    model_class = getattr(transformers, config["architectures"][0])
    theirs = model_class(config_class.from_dict(config)).eval()
    theirs.save_pretrained(tmp_path)
    ours = import_hf(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens())[..., :VOCAB], theirs(tokens()).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SHAPES)
def test_layout_round_trips_bit_for_bit(name: str, tmp_path: Path) -> None:
    ours = build(SHAPES[name])
    export_hf(ours, tmp_path)
    back = import_hf(tmp_path)
    used = ours.config.vocab_size
    for key, tensor in ours.state_dict().items():
        limit = used if key in ("embedding.weight", "head.weight") else len(tensor)
        assert torch.equal(tensor[:limit], back.state_dict()[key][:limit]), key


def test_import_refuses_what_it_would_compute_wrongly() -> None:
    config, tensors = to_hf(SHAPES["llama"], build(SHAPES["llama"]).state_dict())
    with pytest.raises(UsageError, match="rope_scaling"):
        from_hf(config | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, tensors)
    with pytest.raises(UsageError, match="model_type 'mamba'"):
        from_hf(config | {"model_type": "mamba"}, tensors)
    with pytest.raises(DamagedError, match="o_proj"):
        from_hf(config, {name: t for name, t in tensors.items() if "1.self_attn.o_proj" not in name})
    with pytest.raises(DamagedError, match="do not belong together"):
        from_hf(config | {"hidden_size": 64, "head_dim": 8}, tensors)


@pytest.mark.parametrize("name", SHAPES)
def test_cache_gives_the_logits_of_the_whole(name: str) -> None:
    model, ids = build(SHAPES[name]), tokens(rows=1)
    cache = KVCache(model.config, rows=1, device=ids.device, dtype=torch.float32)
    with torch.no_grad():
        whole = model(ids)
        parts = [model(ids[:, :20], cache=cache)]
        parts += [model(ids[:, i : i + 1], cache=cache) for i in range(20, SEQ_LEN)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=1e-4)


def packed() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two rows: documents of 20 + 17 + 11 tokens, and of 30 + 12 with 6 of padding."""
    segments = torch.zeros(2, SEQ_LEN, dtype=torch.int32)
    positions = torch.zeros(2, SEQ_LEN, dtype=torch.int32)
    for row, lengths in enumerate([(20, 17, 11), (30, 12)]):
        start = 0
        for number, length in enumerate(lengths, start=1):
            segments[row, start : start + length] = number
            positions[row, start : start + length] = torch.arange(length)
            start += length
    return tokens(), segments, positions


def plan_for(segments: torch.Tensor, window: int = 0) -> AttentionPlan:
    return plan_attention(
        "sdpa", rows=2, seq_len=SEQ_LEN, device=segments.device, window=window, segment_ids=segments
    )


@pytest.mark.parametrize("name", SHAPES)
def test_documents_do_not_move_each_other_by_one_bit(name: str) -> None:
    model = build(SHAPES[name])
    ids, segments, positions = packed()
    plan = plan_for(segments, model.config.sliding_window)
    changed = ids.clone()
    changed[0, :20] = (changed[0, :20] + 7) % VOCAB
    changed[1, :30] = (changed[1, :30] + 7) % VOCAB
    with torch.no_grad():
        before, after = model(ids, positions, plan), model(changed, positions, plan)
        leaking = model(ids, positions), model(changed, positions)
    assert torch.equal(before[0, 20:], after[0, 20:])
    assert torch.equal(before[1, 30:42], after[1, 30:42])
    assert not torch.equal(before[0, :20], after[0, :20])
    assert not torch.equal(leaking[0][0, 20:], leaking[1][0, 20:])  # the test can fail


@pytest.mark.parametrize("name", SHAPES)
def test_packed_document_equals_the_document_alone(name: str) -> None:
    model = build(SHAPES[name])
    ids, segments, positions = packed()
    with torch.no_grad():
        together = model(ids, positions, plan_for(segments, model.config.sliding_window))
        alone = model(ids[:1, 20:37])
    torch.testing.assert_close(together[:1, 20:37], alone, atol=1e-4, rtol=1e-4)


def test_flex_mask_agrees_with_the_dense_one() -> None:
    from tokpack.train.attention import _block_mask

    _, segments, _ = packed()
    block = _block_mask(2, SEQ_LEN, 8, segments, segments.device)
    row, query, key = torch.meshgrid(
        torch.arange(2), torch.arange(SEQ_LEN), torch.arange(SEQ_LEN), indexing="ij"
    )
    dense = plan_for(segments, window=8).local
    assert torch.equal(block.mask_mod(row, torch.zeros(()), query, key), dense[:, 0])


def test_checkpointing_and_padding_change_nothing() -> None:
    model = build(SHAPES["gpt2"]).train()
    loss = model(tokens())[..., :VOCAB].logsumexp(-1).sum()
    expected = torch.autograd.grad(loss, list(model.parameters()))
    model.activation_checkpointing = True
    loss = model(tokens()).logsumexp(-1).sum()  # -inf at padded ids adds nothing
    found = torch.autograd.grad(loss, list(model.parameters()))
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert padded_vocab_size(model.config) == 256
    assert not found[0][VOCAB:].any()


@pytest.mark.parametrize("name", PRESETS)
def test_preset_sizes(name: str) -> None:
    settings = settings_from(preset_values(name))
    vocab_size = 262_144 if name.startswith("gemma") else 50_257
    shape = complete(settings.model, vocab_size=vocab_size, seq_len=settings.data.seq_len)
    with torch.device("meta"):
        model = GPT(shape)
    assert sum(parameter.numel() for parameter in model.parameters()) == count_parameters(shape)
    published = {"gpt2-124m": 124_439_808, "gpt2-1558m": 1_557_611_200, "gemma3-270m": 268_098_176}
    if name in published:
        padding = (padded_vocab_size(shape) - vocab_size) * shape.hidden_size
        assert count_parameters(shape) - padding == published[name]


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(UsageError, match="does not split over 5 heads"):
        small(num_heads=5)
    with pytest.raises(UsageError, match="no multiple"):
        small(num_kv_heads=3)
    with pytest.raises(UsageError, match="even"):
        small(**LLAMA | {"head_dim": 7})
    assert replace(SHAPES["gpt2"], seq_len=SEQ_LEN) == SHAPES["gpt2"]


@pytest.mark.parametrize("seq_len", [8, 256, 257])
def test_short_rows_attend_in_float32_on_a_cpu(seq_len: int) -> None:
    """Also under autocast, which would narrow them; longer rows take the kernel of their own dtype."""
    chance = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2, 2, seq_len, 8, generator=chance).bfloat16() for _ in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(q, k, v, CAUSAL, window=0, scale=0.3, dropout=0.0)
    wide = [x.float() for x in (q, k, v)] if seq_len <= 256 else [q, k, v]
    expected = torch.nn.functional.scaled_dot_product_attention(*wide, is_causal=True, scale=0.3)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected.bfloat16())
