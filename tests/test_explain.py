"""`tokpack explain`: what it says of a row is checked against shards, documents and input files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokpack import encode
from tokpack.batches import Batch
from tokpack.dataset.store import ArrayStore, Dataset
from tokpack.errors import MismatchError, UsageError
from tokpack.explain import explain_row, find_position
from tokpack.protocols import SamplerOptions
from tokpack.samplers import open_sampler
from tokpack.samplers.mixture import Mixture
from tokpack.samplers.random_block import RandomBlock


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("explain")
    (folder / "texts").mkdir()
    rng = np.random.default_rng(0)
    for name in ("one.txt", "two.txt", "three.txt"):
        sizes = rng.integers(1, 60, 80).tolist()
        lines = [f"{name} {number} {'ü' * size}" for number, size in enumerate(sizes)]
        (folder / "texts" / name).write_text("\n".join(lines))
    return encode(
        folder / "texts",
        folder / "set",
        tokenizer="byte",
        text_split="lines",
        val_fraction=0.2,
        shard_bytes=12_000,
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("random-block", {}),
        ("random-block", {"epoch": "replacement"}),
        ("sliding-window", {"stride": "40", "drop_last": "false"}),
        ("sliding-window", {"within": "documents", "drop_last": "false"}),
        ("packed", {}),
        ("packed", {"strategy": "greedy", "long_documents": "truncate"}),
    ],
)
def test_every_row_is_explained_truly(dataset: Dataset, name: str, options: dict[str, str]) -> None:
    store = dataset["train"]
    assert len(dataset.manifest.splits["train"].shards) > 1
    sampler = open_sampler(name, store, SamplerOptions(96, seed=2, options=options))
    rows = np.arange(0, sampler.rows_before(2), 3)
    batch = Batch.empty(len(rows), 96, sampler.dtype, segmented=True)
    sampler.fill(rows, batch)
    for index, row in enumerate(rows.tolist()):
        pieces = explain_row(sampler, row)
        said = np.concatenate([piece.tokens for piece in pieces])
        assert np.array_equal(batch.tokens[index, : len(said)], said)
        assert [piece.columns[0] for piece in pieces] == [0, *(piece.columns[1] for piece in pieces[:-1])]
        for piece in pieces:
            (start, stop), (first, last) = piece.document_tokens, piece.shard_tokens
            document = store.document(piece.document)
            assert len(document) == piece.document_length
            assert np.array_equal(document[start:stop], piece.tokens)
            shard = np.fromfile(dataset.path / piece.shard, dataset["train"].dtype)
            assert np.array_equal(shard[first:last], piece.tokens)
            if sampler.segmented:
                assert batch.segment_ids is not None
                assert set(batch.segment_ids[index, slice(*piece.columns)].tolist()) == {piece.segment}


@pytest.mark.parametrize("split", ["train", "validation"])
def test_positions_lead_to_the_text_in_its_file(dataset: Dataset, split: str) -> None:
    sampler = open_sampler("packed", dataset[split], SamplerOptions(200))
    folder = dataset.path.parent / "texts"
    for row in range(3):
        for piece in explain_row(sampler, row):
            name, position = find_position(piece, folder)
            assert name in {source for source, _, _ in piece.origin.inputs}
            text = bytes(dataset[split].document(piece.document).astype(np.uint8)[:-1])  # less end-of-text
            assert (folder / name).read_bytes()[position : position + len(text)] == text


def test_changed_inputs_are_noticed(dataset: Dataset, tmp_path: Path) -> None:
    piece = explain_row(open_sampler("packed", dataset["train"], SamplerOptions(200)), 0)[0]
    for path in (dataset.path.parent / "texts").iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace("ü", "y"))
    with pytest.raises(MismatchError, match="no longer what the inputs"):
        find_position(piece, tmp_path)


def test_rows_of_a_mixture_name_their_dataset(dataset: Dataset) -> None:
    parts = {name: RandomBlock(dataset[name], seq_len=64) for name in ("train", "validation")}
    mixture = Mixture(parts, {"train": 0.5, "validation": 0.5})
    batch = Batch.empty(6, 64, mixture.dtype)
    mixture.fill(np.arange(6), batch)
    seen = set()
    for row in range(6):
        pieces = explain_row(mixture, row)
        seen |= {piece.store.name for piece in pieces}
        assert np.array_equal(np.concatenate([piece.tokens for piece in pieces]), batch.tokens[row])
    assert seen == {"train", "validation"}


def test_arrays_in_memory_have_no_origin() -> None:
    sampler = RandomBlock(ArrayStore(np.arange(99, dtype=np.uint16), vocab_size=99), seq_len=8)
    with pytest.raises(UsageError, match="dataset on disk"):
        explain_row(sampler, 0)


def test_command_shows_origin_and_text(dataset: Dataset, tokpack: Any) -> None:
    choices = [
        "--sampler",
        "packed",
        "--seq-len",
        200,
        "--seed",
        1,
        "--step",
        3,
        "--row",
        5,
        "--batch-size",
        8,
    ]
    done = tokpack("explain", dataset.path, *choices, "--full")
    assert done.returncode == 0, done.stderr
    sampler = open_sampler("packed", dataset["train"], SamplerOptions(200, seed=1))
    pieces = explain_row(sampler, 3 * 8 + 5)
    for piece in pieces:
        assert f"document {piece.document:,}, its tokens" in done.stdout
        assert piece.shard in done.stdout
        assert bytes(piece.tokens[:-1].astype(np.uint8)).decode() in done.stdout
    found = json.loads(
        tokpack("explain", dataset.path, *choices, "--json", "--source", dataset.path.parent / "texts").stdout
    )
    assert found["row"] == 29
    assert [piece["document"] for piece in found["pieces"]] == [piece.document for piece in pieces]
    assert all(piece["position"][0].endswith(".txt") for piece in found["pieces"])


def test_command_explains_rows_of_a_mixture(dataset: Dataset, tokpack: Any, tmp_path: Path) -> None:
    """What the command says of each row is what the mixture of the same weights fills in."""
    (tmp_path / "code.txt").write_text("\n".join(f"def f(x): return x + {n}" for n in range(200)))
    code = encode(tmp_path / "code.txt", tmp_path / "code", tokenizer="byte", text_split="lines")
    mixed = ["--data", f"{dataset.path}=2", "--data", "code=1"]
    parts = {
        name: RandomBlock(each["train"], seq_len=64) for name, each in {"set": dataset, "code": code}.items()
    }
    mixture = Mixture(parts, {"set": 2, "code": 1})
    batch = Batch.empty(3, 64, mixture.dtype)
    mixture.fill(np.arange(6, 9), batch)
    folders = {"set": str(dataset.path), "code": "code"}
    for row in range(3):
        found = tokpack(
            "explain", *mixed, "--seq-len", 64, "--batch-size", 3, "--step", 2, "--row", row, "--json"
        )
        said = json.loads(found.stdout)
        assert said["row"] == 6 + row
        assert {"epoch/set", "epoch/code"} <= said.keys()
        assert {piece["dataset"] for piece in said["pieces"]} == {folders[mixture.name_of(6 + row)]}
        text = bytes(batch.tokens[row][batch.tokens[row] < 256].astype(np.uint8)).decode("utf-8", "replace")
        assert (
            "".join(piece["text"] for piece in said["pieces"]).replace("<|endoftext|>", "")[:20] == text[:20]
        )
    shown = tokpack("explain", *mixed, "--seq-len", 64)
    assert "dataset  " in shown.stdout
    assert "epoch set 0.00, code 0.00" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "elsewhere=1"], "exclude each other"),
        (["--row", "16"], "rows from 0 to 15"),
        (["--step", "-1"], "steps count from 0"),
        (["--sampler", "packt"], "Did you mean 'packed'?"),
        (["--sampler", "packed", "--sampler-option", "strategy"], "write NAME=VALUE"),
    ],
)
def test_mistakes_end_with_a_sentence(
    dataset: Dataset, tokpack: Any, arguments: list[str], message: str
) -> None:
    done = tokpack("explain", dataset.path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
