from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokpack.errors import UsageError
from tokpack.train.config import DataConfig, OptimConfig, Settings
from tokpack.train.layers import expand, merge
from tokpack.train.parsing import dump_toml, read_toml, settings_from
from tokpack.train.presets import PRESETS, preset_values


@given(
    lr=st.floats(allow_nan=False, allow_infinity=False),
    name=st.text(st.characters(exclude_categories=["Cs"])),
    options=st.dictionaries(st.text(min_size=1, max_size=5), st.integers(0, 99) | st.booleans(), max_size=3),
)
def test_file_round_trips(lr: float, name: str, options: dict[str, int]) -> None:
    settings = Settings(optim=OptimConfig(lr=lr), data=DataConfig(dataset=name, sampler_options=options))
    assert settings_from(tomllib.loads(dump_toml(settings))) == settings


@pytest.mark.parametrize("name", PRESETS)
def test_preset_round_trips(name: str) -> None:
    settings = settings_from(preset_values(name))
    assert settings.preset == name
    assert settings_from(tomllib.loads(dump_toml(settings))) == settings


def test_later_layers_win() -> None:
    values = merge(
        preset_values("tiny"), {"optim": {"lr": 1.0}}, expand(["optim.lr=3e-4", "data.seq_len=64"])
    )
    settings = settings_from(values)
    assert (settings.optim.lr, settings.data.seq_len) == (3e-4, 64)
    assert settings.model.num_layers == 4


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optim.lrr=1", "unknown setting 'optim.lrr' in .*; did you mean 'optim.lr'"),
        ("optim.batch_size=1", "did you mean 'data.batch_size'"),
        ("model.n_layers=1", "did you mean 'model.num_layers'"),
        ("train.device=3", "train.device in .* is 3; it must be str"),
        ("schedule.name=cosin", "must be one of 'cosine', 'wsd', 'linear', 'constant'"),
        ("train.max_iters=many", "train.max_iters in .* is 'many'; it must be int"),
        ("optim=3", "is a section"),
        ("optim.lr", "write SECTION.KEY=VALUE"),
    ],
)
def test_mistakes_are_named(assignment: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        settings_from(expand([assignment]))


def test_values_that_are_no_toml_are_text() -> None:
    assert expand(["data.dataset=./some where", "log.trackers=['csv']"]) == {
        "data": {"dataset": "./some where"},
        "log": {"trackers": ["csv"]},
    }


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*none\.toml"):
        read_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("optim = ")
    with pytest.raises(UsageError, match=r"bad\.toml is no TOML"):
        read_toml(tmp_path / "bad.toml")
    with pytest.raises(UsageError, match="did you mean 'gpt2-124m'"):
        preset_values("gpt2-124")
