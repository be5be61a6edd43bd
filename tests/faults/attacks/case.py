"""What an attack is, and what tokpack does with the things that are attacked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tokpack.batches import TextBatch
from tokpack.dataset.store import open_dataset
from tokpack.dataset.verify import verify_dataset
from tokpack.errors import DamagedError
from tokpack.plugins import discover
from tokpack.protocols import SourceOptions, TokenizerOptions
from tokpack.specs import load


@dataclass(frozen=True, slots=True)
class Attack:
    """``prepare`` makes the hostile thing of the good one that lies at its path; names are of `goods`.

    ``victim`` reads it as many programs do, and returns whether it was harmed. ``harmless`` attacks may be
    read, since tokpack passes over what they carry; all others must be refused.
    """

    name: str
    good: str
    prepare: Callable[[Path], object]
    victim: Callable[[Path], bool]
    harmless: bool = False


def marked(path: Path) -> bool:
    """Whether code of the attack has run: it leaves the folder ``ran`` beside the thing attacked."""
    return (path.parent / "ran").exists()


def read_dataset(path: Path) -> None:
    dataset = open_dataset(path)
    for store in dataset.values():
        store.tokens()
        store.offsets  # noqa: B018 (reads them)
        if store.num_documents:
            store.document(0)
    if report := verify_dataset(path, threads=1).findings:
        raise DamagedError(report[0].message)
    dataset.open_tokenizer()


def read_checkpoint(path: Path) -> None:
    from tokpack.train.checkpoint import load_checkpoint

    load_checkpoint(path)
    load_checkpoint(path, "best")


def read_tokenizer(path: Path) -> None:
    backend = "hf" if path.is_dir() or path.suffix == ".json" else "sentencepiece"
    tokenizer = load(discover().tokenizers[backend].open)(str(path), TokenizerOptions())
    tokenizer.encode_batch(TextBatch.from_texts(["a text"]))


def read_source(path: Path) -> None:
    kind = path.name.split(".")[1]
    spec = discover().sources["csv" if kind == "csv" else "jsonl" if kind == "jsonl" else "text"]
    source = load(spec.open)(SourceOptions(max_document_bytes=1 << 20, batch_bytes=1 << 16))
    for part in source.plan(str(path), slice_bytes=1 << 30):
        for batch in source.read(part):
            len(batch.texts)


READERS: dict[str, Callable[[Path], None]] = {
    "checkpoint": read_checkpoint,
    "tokenizer": read_tokenizer,
    "source": read_source,
}


def read(attack: Attack, path: Path) -> None:
    READERS.get(attack.good.partition(":")[0], read_dataset)(path)
