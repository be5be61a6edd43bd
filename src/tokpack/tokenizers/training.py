"""Training a tokenizer on input files, whatever backend learns and whatever sources read them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from tokpack import __version__
from tokpack.dataset.publish import (
    exchange_directories,
    restore_exchanged,
    storage_error,
    sync_directory,
)
from tokpack.errors import UsageError
from tokpack.plugins import Plugins, discover
from tokpack.protocols import SourceOptions, Tokenizer, TrainingOptions
from tokpack.sources.inputs import TRAIN, InputFile, find_inputs
from tokpack.specs import TokenizerSpec, load
from tokpack.tokenizers.corpus import Corpus
from tokpack.tokenizers.quality import Quality, measure

__all__ = ["RECORD_NAME", "TrainedTokenizer", "train_tokenizer"]

#: The file beside a trained tokenizer that says what it was trained on, and how.
RECORD_NAME = "training.json"

#: So much text is enough to measure a tokenizer on.
_MEASURED_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class TrainedTokenizer:
    """A tokenizer that was trained and saved, and what is known about it."""

    path: Path
    reference: str  # opens it again: "bpe:tok"
    tokenizer: Tokenizer
    options: TrainingOptions
    documents: int
    text_bytes: int
    problems: Mapping[str, int]  # documents that were skipped or repaired, by reason
    quality: Quality
    held_out: bool  # measured on validation inputs, not on the beginning of the training text


def train_tokenizer(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path = "tok",
    *,
    options: TrainingOptions,
    backend: str = "bpe",
    validation: Sequence[str | Path] = (),
    source: SourceOptions | None = None,
    input_format: str | None = None,
    limit_bytes: int | None = None,
    overwrite: bool = False,
    plugins: Plugins | None = None,
) -> TrainedTokenizer:
    """Train a tokenizer on ``inputs`` and save it as the folder ``output``, whole or not at all.

    The saved files depend on the text and the options only. ``limit_bytes`` trains on the first so many bytes
    of text, in the order of the inputs. The result is measured on the ``validation`` inputs or, without any,
    on the beginning of the training text. ``options.progress`` hears of the phases of the backend; while it
    cannot say how much there is to do, it hears how much of the input is read.

    Raises:
        UsageError: the output exists, the backend cannot be trained, or an option is out of range.
        StorageError: an input cannot be read, or the output cannot be written.
        DocumentError: a document is broken and ``source.on_error`` is ``fail``.
    """
    plugins = plugins or discover()
    source = source or SourceOptions()
    path = Path(output)
    train = load(_trainable(plugins, backend))
    if limit_bytes is not None and limit_bytes < 1:
        raise UsageError(f"--limit-bytes is {limit_bytes}; it must be at least 1")
    _check_output(path, overwrite=overwrite)
    named = [inputs] if isinstance(inputs, str | Path) else inputs
    found = find_inputs(
        [str(item) for item in named],
        validation=[str(item) for item in validation],
        input_format=input_format,
        sources=plugins.sources,
    )
    inside = [item for item in found if item.split == TRAIN]
    outside = [item for item in found if item.split != TRAIN]

    corpus = Corpus(inside, source, plugins=plugins, limit_bytes=limit_bytes)
    tokenizer: Tokenizer = train(corpus, replace(options, progress=corpus.track(options.progress)))
    _save(tokenizer, path, _record(backend, options, inside, corpus, limit_bytes))
    measured = min(limit_bytes or _MEASURED_BYTES, _MEASURED_BYTES)
    sample = Corpus(outside or inside, source, plugins=plugins, limit_bytes=measured)
    return TrainedTokenizer(
        path=path,
        reference=f"{backend}:{path}",
        tokenizer=tokenizer,
        options=options,
        documents=corpus.documents,
        text_bytes=corpus.text_bytes,
        problems=dict(corpus.problems),
        quality=measure(tokenizer, sample),
        held_out=bool(outside),
    )


def _trainable(plugins: Plugins, backend: str) -> str:
    spec: TokenizerSpec = plugins.tokenizers[backend]
    if spec.train is None:
        able = [name for name, other in plugins.tokenizers.items() if other.train is not None]
        raise UsageError(
            f"tokenizer backend {backend!r} cannot be trained; these can: {', '.join(able) or 'none'}"
        )
    return spec.train


def _record(
    backend: str,
    options: TrainingOptions,
    inputs: Sequence[InputFile],
    corpus: Corpus,
    limit_bytes: int | None,
) -> bytes:
    """What the tokenizer was trained on and how: nothing that may differ between two equal results."""
    record: dict[str, Any] = {
        "tokpack": __version__,
        "backend": backend,
        "model": options.model,
        "vocab_size": options.vocab_size,
        "special_tokens": options.special_tokens,
        "pattern": options.pattern,
        "tie_rule": options.tie_rule,
        "min_frequency": options.min_frequency,
        "max_token_length": options.max_token_length,
        "limit_bytes": limit_bytes,
        "inputs": [{"name": item.name, "bytes": item.size_bytes} for item in inputs],
        "documents": corpus.documents,
        "text_bytes": corpus.text_bytes,
        "problems": dict(sorted(corpus.problems.items())),
    }
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def _check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse to write over what is there unless asked to, and over anything but a trained tokenizer."""
    restore_exchanged(_temporary(path.absolute()), path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not overwrite:
        raise UsageError(
            f"{path} exists already; use it as it is, choose another --output, or replace it with --overwrite"
        )
    if not (path / RECORD_NAME).is_file():
        raise UsageError(
            f"{path} is not a tokenizer that tokpack trained (it has no {RECORD_NAME}), so it is not "
            "overwritten; remove it yourself, or choose another --output"
        )


def _save(tokenizer: Tokenizer, path: Path, record: bytes) -> None:
    """Make the folder ``path`` appear complete: temporary folder → write → fsync → rename."""
    path = path.absolute()
    temporary = _temporary(path)
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # left by a process that was killed
        temporary.mkdir(parents=True)
        tokenizer.save(temporary)
        (temporary / RECORD_NAME).write_bytes(record)
        for file in temporary.iterdir():
            _sync_file(file)
        sync_directory(temporary)
        if path.exists():
            exchange_directories(temporary, path)
        else:
            temporary.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
