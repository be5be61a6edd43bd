"""Hugging Face datasets: folders written by ``save_to_disk``, and names on the hub.

| reference | what it is |
|---|---|
| ``hf-datasets:./saved`` | a saved folder; its ``train`` split, or its only one |
| ``hf-datasets:./saved#validation`` | another split |
| ``hf-datasets:roneneldan/TinyStories`` | from the hub, by way of the ``datasets`` package and its cache |
| ``hf-datasets:allenai/c4@en#validation`` | configuration ``en`` |

Either way a dataset is Arrow files on this machine, which are read like any others. A folder is read without
the ``datasets`` package; nothing that a folder says is followed out of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from tokpack.errors import DamagedError, StorageError, UsageError
from tokpack.network import reachable
from tokpack.protocols import Slice, SourceBatch, SourceOptions
from tokpack_arrow.source import ArrowSource

__all__ = ["HuggingFaceSource", "open_source"]

_MAX_JSON = 16 << 20
# No separators and no leading dot: a name can never leave the folder.
_Name: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[\w][\w.=+-]{0,254}\Z")]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _DataFile:
    filename: _Name


class _State(msgspec.Struct, rename={"data_files": "_data_files", "indices": "_indices_data_files"}):
    data_files: list[_DataFile]
    indices: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class _Splits:
    splits: list[_Name]


def open_source(options: SourceOptions) -> HuggingFaceSource:
    """Open the source; which column is text stands in ``options.text_field``."""
    return HuggingFaceSource(ArrowSource(options))


@dataclass(frozen=True, slots=True)
class HuggingFaceSource:
    """Rows of a dataset, from the Arrow files that `resolve` names."""

    files: ArrowSource

    def resolve(self, model: str) -> Sequence[str]:
        """Return the Arrow files behind what follows ``hf-datasets:``, in order.

        Raises:
            StorageError: there is no such dataset, or no network to look for it.
            UsageError: there is no such split, or the rows are in an order that only ``datasets`` knows.
            DamagedError: the folder's own description cannot be understood or names files outside of it.
        """
        name, _, split = model.partition("#")
        folder = Path(name).expanduser()
        return _saved(folder, split) if folder.is_dir() else _from_hub(name, split)

    def plan(self, path: str, *, slice_bytes: int) -> Sequence[Slice]:
        """Cut one Arrow file into runs of record batches."""
        return self.files.plan(path, slice_bytes=slice_bytes)

    def describe(self, path: str) -> str:
        """Say which column is read."""
        return self.files.describe(path)

    def read(self, part: Slice) -> Iterator[SourceBatch]:
        """Yield the rows of one slice."""
        return self.files.read(part)


def _saved(folder: Path, split: str) -> list[str]:
    if (folder / "dataset_dict.json").is_file():
        splits = _decode(folder / "dataset_dict.json", _Splits).splits
        chosen = split or ("train" if "train" in splits or len(splits) != 1 else splits[0])
        if chosen not in splits:
            raise UsageError(
                f"{folder} has no split {chosen!r}, only: {', '.join(splits)}; "
                f"name one: hf-datasets:{folder}#{splits[0] if splits else 'train'}"
            )
        return _saved(folder / chosen, "")
    if split:
        raise UsageError(f"{folder} is one dataset without splits; leave #{split} out")
    if not (folder / "state.json").is_file():
        raise UsageError(
            f"{folder} was not written by save_to_disk: it has no state.json; name its files instead"
        )
    state = _decode(folder / "state.json", _State)
    if state.indices:
        raise UsageError(f"{folder} keeps its rows in another order; save it again after flatten_indices()")
    paths = [folder / item.filename for item in state.data_files]
    for path in paths:
        if path.is_symlink() or not path.is_file():
            raise DamagedError(f"{path}, which state.json names, is no regular file; save the dataset again")
    return [str(path) for path in paths]


def _decode(path: Path, kind: type[T]) -> T:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise DamagedError(f"{path} is larger than {_MAX_JSON >> 20} MiB; it describes no saved dataset")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise DamagedError(
            f"{path} is not what save_to_disk writes: {error}; save the dataset again"
        ) from error


def _from_hub(name: str, split: str) -> list[str]:
    repository, _, configuration = name.partition("@")
    if name.startswith((".", "/", "~")) or repository.count("/") > 1 or not repository:
        raise StorageError(f"{name} is no folder; a name on the hub has the form org/name")
    if not reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        # The hub's library would try for half a minute; offline it goes to its cache at once.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            f"hf-datasets:{name} is a name on the hub; to load it: pip install 'tokpack-arrow[hub]'"
        ) from error
    if int(datasets.__version__.partition(".")[0]) < 4:
        raise UsageError(
            f"datasets {datasets.__version__} may run code of a repository; upgrade to 4.0 or newer"
        )
    try:
        loaded = datasets.load_dataset(repository, configuration or None, split=split or "train")
    # The library and its network stack raise whatever they please; the user needs one sentence.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise StorageError(
            f"cannot load {name} from the hub: {reason}; check the name and the network, "
            "or save the dataset elsewhere with save_to_disk and give its folder"
        ) from error
    return [item["filename"] for item in loaded.cache_files]
