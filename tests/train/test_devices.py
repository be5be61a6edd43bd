from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tokpack.errors import UsageError
from tokpack.train import devices
from tokpack.train.attention import choose_kernel
from tokpack.train.devices import Compute, check_memory, estimate_bytes, find_device, peak_flops
from tokpack.train.parsing import settings_from
from tokpack.train.presets import preset_values
from tokpack.train.shape import complete

CPU = Compute(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    ("name", "message"),
    [("tpu:0x", "unknown device"), ("meta", "not supported"), ("cuda:99", "is not there")],
)
def test_devices_that_are_not_there(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_device(name)


def test_memory_is_estimated_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_from(preset_values("gpt2-124m"))
    model = complete(settings.model, vocab_size=50_257, seq_len=1024)
    parts = estimate_bytes(settings, model, dtype=torch.bfloat16, device=CPU.device)
    assert parts["weights"] == 4 * 124_475_904
    assert parts["optimizer"] == 2 * parts["weights"]
    monkeypatch.setattr(devices, "available_bytes", lambda _: 8 << 30)
    with pytest.raises(UsageError) as caught:
        check_memory(settings, model, CPU)
    assert "--batch-size 8 --set data.global_batch_size=64" in str(caught.value)
    fitting = replace(settings, data=replace(settings.data, batch_size=8, global_batch_size=64))
    assert check_memory(fitting, model, CPU) < 8 << 30
    monkeypatch.setattr(devices, "available_bytes", lambda _: 1 << 30)
    with pytest.raises(UsageError, match=r"1.0 GiB free; use a smaller --preset$"):
        check_memory(settings, model, CPU)


def test_kernels() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    half = torch.bfloat16

    def chosen(requested: str, device: torch.device, dtype: torch.dtype, documents: bool) -> str:
        return choose_kernel(requested, device=device, dtype=dtype, documents=documents, window=False)

    assert chosen("auto", cpu, torch.float32, True) == "sdpa"
    assert chosen("auto", cuda, half, False) == "sdpa"
    assert chosen("auto", cuda, half, True) == "varlen"
    assert chosen("auto", cuda, torch.float32, True) == "flex"
    with pytest.raises(UsageError, match="varlen"):
        chosen("varlen", cpu, half, True)
    with pytest.raises(UsageError, match="flex"):
        chosen("flex", cpu, half, True)


def test_peak_is_measured_where_none_is_published() -> None:
    peak, source = peak_flops(CPU)
    assert peak > 1e8
    assert "measured" in source
