"""What a run reads: one dataset, or several mixed, behind the same few questions. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokpack.dataset.store import Dataset, ShardStore, open_dataset
from tokpack.errors import UsageError
from tokpack.loader.populate import populate_in_background
from tokpack.plugins import Plugins
from tokpack.protocols import Sampler, SamplerOptions
from tokpack.samplers import epochs_at, open_sampler
from tokpack.samplers.mixture import Mixture, check_tokenizers, whole_shares
from tokpack.train.config import DataConfig

__all__ = ["Corpus", "epochs_seen", "open_corpus", "parse_mixture"]


@dataclass(frozen=True, slots=True)
class Corpus:
    """The datasets of a run, opened. All were written by one tokenizer."""

    datasets: Mapping[str, Dataset]  # by the short name that messages and metrics use
    weights: Mapping[str, float]  # by the same names; empty where one dataset stands alone

    @property
    def first(self) -> Dataset:
        """The dataset whose tokenizer travels with the run: any would do."""
        return next(iter(self.datasets.values()))

    @property
    def name(self) -> str:
        """What a run on it is called."""
        return "+".join(self.datasets) if len(self.datasets) < 4 else "mixture"

    def lacking(self, split: str) -> list[str]:
        """Return the names of the datasets that have no such split, or nothing in it."""
        return [name for name, each in self.datasets.items() if split not in each or not len(each[split])]

    def tokens(self, split: str) -> int:
        """Tokens of a split in all datasets together."""
        return sum(len(dataset[split]) for dataset in self.datasets.values())

    def open_rows(self, data: DataConfig, split: str, *, seed: int, plugins: Plugins) -> Sampler:
        """Open the sampler of one split, every file of which is looked at first.

        Raises:
            UsageError: a dataset has no such split, or is shorter than one row.
            DamagedError: a file is missing or of the wrong size.
        """
        options = SamplerOptions(data.seq_len, seed=seed, options=data.sampler_options)
        opened = {}
        for name, dataset in self.datasets.items():
            store = _checked(dataset, split)
            try:
                opened[name] = open_sampler(data.sampler, store, options, plugins=plugins)
            except UsageError as error:
                raise UsageError(f"{dataset.path}, {split}: {error}") from error
        return Mixture(opened, self.weights) if self.weights else opened.popitem()[1]

    def populate(self, split: str) -> None:
        """Touch the pages of a split in the background, where all of it fits in memory."""
        populate_in_background(*(dataset[split] for dataset in self.datasets.values()))

    def bytes_per_token(self, split: str) -> float:
        """Bytes of text that one token of a row stands for, on average; 0 where it is not known."""
        shares = whole_shares(self.weights or dict.fromkeys(self.datasets, 1.0))
        total = 0.0
        for name, dataset in self.datasets.items():
            info = dataset.manifest.splits[split]
            if not (info.text_bytes and info.tokens):
                return 0.0
            total += shares[name] * info.text_bytes / info.tokens
        return total / sum(shares.values())

    def facts(self) -> dict[str, Any]:
        """Return what a run notes down about its data."""
        info = self.first.manifest.tokenizer
        paths = {name: str(dataset.path) for name, dataset in self.datasets.items()}
        digests = {name: dataset.manifest.root_digest for name, dataset in self.datasets.items()}
        found: dict[str, Any] = (
            {"datasets": paths, "dataset_digests": digests, "weights": dict(self.weights)}
            if self.weights
            else {"dataset": str(self.first.path), "dataset_digest": self.first.manifest.root_digest}
        )
        return found | {"tokenizer": info.reference, "tokenizer_fingerprint": info.fingerprint}


def open_corpus(data: DataConfig, plugins: Plugins) -> Corpus:
    """Open the datasets that the settings name.

    Raises:
        UsageError: a weight that makes no sense.
        MismatchError: the datasets were written by different tokenizers.
        TokpackError: one of them cannot be opened.
    """
    if not data.mixture:
        dataset = open_dataset(data.dataset, plugins=plugins)
        return Corpus({dataset.path.resolve().name: dataset}, {})
    whole_shares(data.mixture)
    names = _short_names(data.mixture)
    opened = {names[path]: open_dataset(path, plugins=plugins) for path in data.mixture}
    check_tokenizers({name: each.manifest.tokenizer.fingerprint for name, each in opened.items()})
    return Corpus(opened, {names[path]: weight for path, weight in data.mixture.items()})


def epochs_seen(sampler: Sampler, rows: int) -> dict[str, float]:
    """Return how many epochs the first ``rows`` rows are: ``epoch``, or ``epoch/NAME`` for each dataset."""
    if isinstance(sampler, Mixture):
        return {f"epoch/{name}": epoch for name, epoch in sampler.epochs_of_parts(rows).items()}
    return {"epoch": epochs_at(sampler, rows)}


def _checked(dataset: Dataset, split: str) -> ShardStore:
    store = dataset[split]
    for shard in dataset.manifest.splits[split].shards:
        for info in shard.files:
            dataset.check_file(info)
    return store


def _short_names(paths: Iterable[str]) -> dict[str, str]:
    """Name datasets by their folders; by the whole path where two folders are called the same.

    Raises:
        UsageError: two paths lead to one dataset.
    """
    folders: dict[Path, str] = {}
    for path in paths:
        folder = Path(path).resolve()
        if folder in folders:
            raise UsageError(f"{folders[folder]!r} and {path!r} are the same dataset; give it one weight")
        folders[folder] = path
    short = [folder.name for folder in folders]
    return {path: path if short.count(folder.name) > 1 else folder.name for folder, path in folders.items()}


def parse_mixture(assignments: Iterable[str], *, instead_of: object = None) -> dict[str, float]:
    """Read ``PATH=WEIGHT`` texts, as ``--data`` takes them, ``instead_of`` a single dataset if one is named.

    Raises:
        UsageError: there is no weight, a path is given twice, or a single dataset is named as well.
    """
    mixture: dict[str, float] = {}
    for text in assignments:
        path, equals, weight = text.rpartition("=")
        if not equals or not path:
            raise UsageError(f"--data is {text!r}; write PATH=WEIGHT, such as ./web=0.7")
        try:
            number = float(weight)
        except ValueError:
            raise UsageError(f"the weight of {path!r} is {weight!r}; write a number, such as 0.7") from None
        if path in mixture:
            raise UsageError(f"--data names {path!r} twice; give it one weight")
        mixture[path] = number
    if mixture and instead_of is not None:
        raise UsageError(f"{instead_of} and --data exclude each other; write --data {instead_of}=WEIGHT, too")
    return mixture
