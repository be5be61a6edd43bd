"""Packed rows in files: opened by pyarrow, pandas, datasets and NumPy, and compared with the documents."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokpack import encode
from tokpack.batches import Batch
from tokpack.dataset.axis import ArrayColumn
from tokpack.dataset.store import Dataset, ShardStore
from tokpack.errors import DamagedError, MismatchError, UsageError
from tokpack.packed_rows import files as files_module
from tokpack.packed_rows.run import compare_strategies, pack_dataset
from tokpack.samplers.packed import Packed
from tokpack.samplers.packing import STRATEGIES

SEQ_LEN = 64
PAD = 256  # the end-of-text id of `byte`, which has no padding id


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("packing")
    words = np.random.default_rng(0).integers(1, 90, 150)
    text = "\n".join(f"{number}:" + "x" * size for number, size in enumerate(words.tolist()))
    (folder / "lines.txt").write_text(text)
    return encode(folder / "lines.txt", folder / "set", tokenizer="byte", text_split="lines")


def expected_columns(dataset: Dataset, **choices: Any) -> dict[str, np.ndarray]:
    sampler = Packed(dataset["train"], seq_len=SEQ_LEN, **choices)
    batch = Batch.empty(len(sampler.plan), SEQ_LEN, sampler.dtype, segmented=True)
    sampler.fill(np.arange(len(sampler.plan)), batch)
    assert batch.segment_ids is not None
    segment_ids = batch.segment_ids[:, :-1].astype(np.int64)
    return {
        "input_ids": np.where(segment_ids, batch.input_ids, PAD),
        "segment_ids": segment_ids,
        "position_ids": np.where(segment_ids, batch.position_ids(), 0),
    }


def open_pyarrow(folder: Path) -> dict[str, Any]:
    import pyarrow.dataset

    format_name = "parquet" if list(folder.glob("*.parquet")) else "ipc"
    paths = sorted(map(str, folder.glob("rows-*")))
    return pyarrow.dataset.dataset(paths, format=format_name).to_table().to_pydict()


def open_pandas(folder: Path) -> dict[str, Any]:
    import pandas

    kind = "parquet" if list(folder.glob("*.parquet")) else "arrow"
    read = pandas.read_parquet if kind == "parquet" else pandas.read_feather
    frame = pandas.concat([read(path) for path in sorted(folder.glob(f"*.{kind}"))])
    return {name: np.stack(frame[name].tolist()) for name in frame}


def open_datasets(folder: Path) -> dict[str, Any]:
    import datasets

    kind = "parquet" if list(folder.glob("*.parquet")) else "arrow"
    paths = sorted(map(str, folder.glob(f"*.{kind}")))
    rows = datasets.load_dataset(
        kind, data_files=paths, split="train", cache_dir=str(folder.parent / f"cache-{kind}")
    )
    assert rows.features["input_ids"].feature.dtype == "int32"
    return rows.with_format("numpy")[:]


def open_numpy(folder: Path) -> dict[str, Any]:
    return {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}


@pytest.mark.parametrize(
    ("format_name", "reader"),
    [
        ("parquet", open_pyarrow),
        ("parquet", open_pandas),
        ("parquet", open_datasets),
        ("arrow", open_pyarrow),
        ("arrow", open_pandas),
        ("arrow", open_datasets),
        ("npy", open_numpy),
    ],
)
def test_other_libraries_read_the_same_rows(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: str, reader: Any
) -> None:
    if reader is not open_numpy:
        pytest.importorskip(reader.__name__.removeprefix("open_"))
        pytest.importorskip("pyarrow")
    monkeypatch.setattr("tokpack.packed_rows.run._BLOCK_TOKENS", 7 * SEQ_LEN)
    monkeypatch.setattr("tokpack.packed_rows.run._SHARD_TOKENS", 21 * SEQ_LEN)
    packed = pack_dataset(dataset, tmp_path / "rows", seq_len=SEQ_LEN, format_name=format_name, seed=3)
    found = reader(tmp_path / "rows")
    expected = expected_columns(dataset, seed=3)
    assert set(found) == set(expected) == set(packed.columns)
    for name, values in expected.items():
        assert np.array_equal(np.asarray(found[name]), values), name
    if format_name != "npy":
        assert len(packed.files) == -(-packed.ledger.rows // 21)


def test_every_document_is_one_segment(dataset: Dataset, tmp_path: Path) -> None:
    longest = int(np.diff(dataset["train"].offsets).max())
    pack_dataset(dataset, tmp_path / "rows", seq_len=longest, format_name="npy")
    rows = open_numpy(tmp_path / "rows")
    segments: Counter[bytes] = Counter()
    for ids, numbers in zip(rows["input_ids"], rows["segment_ids"], strict=True):
        segments.update(bytes(ids[numbers == n]) for n in range(1, int(numbers.max()) + 1))
    store = dataset["train"]
    assert segments == Counter(bytes(store.document(n)) for n in range(store.num_documents))


def test_further_columns_stay_with_their_tokens(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = dataset["train"].tokens()
    column = ArrayColumn((tokens % 5 == 0).astype(np.uint8))
    monkeypatch.setattr(ShardStore, "column", lambda self, name: column)
    monkeypatch.setattr(dataset, "manifest", dataclasses.replace(dataset.manifest, columns=["loss_mask"]))
    pack_dataset(dataset, tmp_path / "rows", seq_len=SEQ_LEN, format_name="npy")
    rows = open_numpy(tmp_path / "rows")
    expected = (rows["input_ids"] % 5 == 0) & (rows["segment_ids"] > 0)
    assert rows["loss_mask"].dtype == np.uint8
    assert np.array_equal(rows["loss_mask"], expected)


def test_labels_as_the_guide_makes_them(dataset: Dataset, tmp_path: Path) -> None:
    """For models that shift labels themselves; compared with those that the sampler gives."""
    pack_dataset(dataset, tmp_path / "packed", seq_len=SEQ_LEN, format_name="npy", long_documents="truncate")
    guide = Path(__file__).parents[2] / "docs" / "how-to" / "pack-documents.md"
    snippet = guide.read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(snippet.replace('"packed/', f'"{tmp_path}/packed/'), names)
    sampler = Packed(dataset["train"], seq_len=SEQ_LEN, long_documents="truncate")
    batch = Batch.empty(len(sampler.plan), SEQ_LEN, sampler.dtype, segmented=True)
    sampler.fill(np.arange(len(sampler.plan)), batch)
    assert np.array_equal(names["labels"][:, 1:], batch.labels()[:, :-1])
    assert (names["labels"][:, 0] == -100).all()


def test_description_is_true(dataset: Dataset, tmp_path: Path) -> None:
    packed = {}
    for name in files_module.FORMATS:
        if name != "npy":
            pytest.importorskip("pyarrow")
        folder = tmp_path / name
        packed[name] = pack_dataset(dataset, folder, seq_len=SEQ_LEN, format_name=name)
        sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
        names = {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
        assert set(sums) == names
        for file in names:
            assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == sums[file]
    described = json.loads((tmp_path / "npy" / "packed.json").read_text())
    assert described["ledger"] == dataclasses.asdict(packed["npy"].ledger)
    assert described["ledger"]["placed"] == len(dataset["train"])
    assert (described["pad_id"], described["dataset"]) == (PAD, dataset["train"].fingerprint)
    assert len({item.digest for item in packed.values()}) == 1
    other = pack_dataset(dataset, tmp_path / "other", seq_len=SEQ_LEN, format_name="npy", seed=1)
    assert other.digest != packed["npy"].digest


def test_output_is_never_half_written(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "rows"
    (tmp_path / "rows.partial" / "dataset").mkdir(parents=True)
    (tmp_path / "rows.partial" / "dataset" / "rows-00007.parquet").write_text("left by a killed process")
    pack_dataset(dataset, output, seq_len=SEQ_LEN, format_name="npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows"]
    assert not (output / "rows-00007.parquet").exists()

    with pytest.raises(UsageError, match="exists already"):
        pack_dataset(dataset, output, seq_len=SEQ_LEN, format_name="npy")
    before = (output / "packed.json").read_bytes()

    true_load = np.load

    def flawed_load(path: Path, **options: Any) -> np.ndarray:
        array = np.array(true_load(path, **options))
        array[0, 0] ^= 1
        return array

    with monkeypatch.context() as patch:
        patch.setattr(files_module.np, "load", flawed_load)
        with pytest.raises(DamagedError, match="differ from those written"):
            pack_dataset(dataset, output, seq_len=SEQ_LEN, format_name="npy", seed=1, overwrite=True)
    assert (output / "packed.json").read_bytes() == before
    pack_dataset(dataset, output, seq_len=SEQ_LEN, format_name="npy", seed=1, overwrite=True)
    assert (output / "packed.json").read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows"]


def test_unfinished_work_of_encode_is_left_alone(dataset: Dataset, tmp_path: Path) -> None:
    journal = tmp_path / "rows.partial" / "journal"
    (tmp_path / "rows.partial" / "dataset").mkdir(parents=True)
    journal.write_text("a finished unit")
    journal.with_name("plan.json").write_text("{}")
    with pytest.raises(MismatchError, match="unfinished work"):
        pack_dataset(dataset, tmp_path / "rows", seq_len=SEQ_LEN, format_name="npy")
    assert journal.exists()
    pack_dataset(dataset, tmp_path / "rows", seq_len=SEQ_LEN, format_name="npy", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows"]


def test_comparison_plans_every_strategy(dataset: Dataset) -> None:
    compared = compare_strategies(dataset["train"], SEQ_LEN)
    assert [entry.strategy for entry in compared] == list(STRATEGIES)
    for entry in compared:
        assert entry.ledger == Packed(dataset["train"], seq_len=SEQ_LEN, strategy=entry.strategy).plan.ledger
    with pytest.raises(UsageError, match="but one row has"):
        compare_strategies(dataset["train"], 10**6)


def test_pyarrow_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"needs pyarrow: pip install pyarrow, or use --format npy"):
        files_module.row_format("parquet")
    assert files_module.row_format("npy").name == "npy"
    with pytest.raises(UsageError, match=r"'csv'.*parquet, arrow, npy"):
        files_module.row_format("csv")


# the command


def test_dry_run_compares_and_writes_nothing(dataset: Dataset, tmp_path: Path, tokpack: Any) -> None:
    done = tokpack("pack", dataset.path, "--seq-len", SEQ_LEN, "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    for entry in compare_strategies(dataset["train"], SEQ_LEN):
        for number in (entry.ledger.rows, entry.ledger.padded, entry.ledger.documents_split):
            assert f" {number:,} " in lines[entry.strategy]
    assert lines["greedy"].count("█") > lines["best-fit"].count("█")
    assert list(tmp_path.iterdir()) == []

    counted = json.loads(tokpack("pack", dataset.path, "--seq-len", SEQ_LEN, "--dry-run", "--json").stdout)
    assert [entry["strategy"] for entry in counted] == list(STRATEGIES)


def test_plot_is_drawn_on_request(dataset: Dataset, tmp_path: Path, tokpack: Any) -> None:
    pytest.importorskip("matplotlib")
    done = tokpack("pack", dataset.path, "--seq-len", SEQ_LEN, "--dry-run", "--plot", "fill.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "fill.png").read_bytes().startswith(b"\x89PNG")


def test_command_writes_rows_and_prints_the_ledger(dataset: Dataset, tmp_path: Path, tokpack: Any) -> None:
    done = tokpack(
        "pack", dataset.path, "--seq-len", SEQ_LEN, "--format", "npy", "--strategy", "pool", "-o", "rows"
    )
    assert done.returncode == 0, done.stderr
    ledger = json.loads((tmp_path / "rows" / "packed.json").read_text())["ledger"]
    assert f"{ledger['placed']:,} placed" in done.stdout
    assert f"{ledger['documents_split']:,} documents split" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seq-len", "1"], "seq_len is 1"),
        (["--seq-len", "9999999"], "but one row has 9,999,999"),
        (["--seq-len", "64", "--split", "test"], "has no split 'test'"),
        (["--seq-len", "64", "--plot", "x.png"], "add --dry-run"),
    ],
)
def test_mistakes_end_with_a_sentence(
    dataset: Dataset, tmp_path: Path, tokpack: Any, arguments: list[str], message: str
) -> None:
    done = tokpack("pack", dataset.path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []
