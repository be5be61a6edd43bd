"""Datasets to and from object stores, where the manifest is the commit.

A store has no rename, so files go first and ``manifest.json`` last: a dataset is there exactly when its
manifest is. Coming back, every file must have the size and SHA-256 that the manifest says.
"""

from __future__ import annotations

import hashlib
import posixpath
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokpack.dataset.manifest import (
    MANIFEST_NAME,
    SUMS_NAME,
    FileInfo,
    Manifest,
    decode_manifest,
    read_manifest,
)
from tokpack.dataset.publish import publish, sync_directory, write_file
from tokpack.encoding.workspace import open_workspace
from tokpack.errors import DamagedError, StorageError, UsageError
from tokpack.urls import is_url, open_filesystem, storage_errors

__all__ = ["delivered", "download_dataset", "upload_dataset"]

_BLOCK_BYTES = 4 << 20
_MAX_MANIFEST = 256 << 20


@contextmanager
def delivered(output: str, *, overwrite: bool) -> Iterator[Path]:
    """Give the folder in which to make a dataset for ``output``; where that is a URL, upload it afterwards.

    The folder of a URL is ``NAME.upload`` in the working directory; once uploaded, it goes away.

    Raises:
        UsageError: a dataset is at the URL already, or waits in the folder for its upload.
        StorageError: the store cannot be reached; this shows before any work is done.
    """
    if not is_url(output):
        yield Path(output)
        return
    folder = Path(f"{output.rstrip('/').rpartition('/')[2] or 'dataset'}.upload")
    finish = f"upload it with: tokpack copy {folder} {output}"
    if (folder / MANIFEST_NAME).exists():
        raise UsageError(f"{folder} holds a complete dataset that was not uploaded; {finish}, or remove it")
    with storage_errors(output):
        store, root = open_filesystem(output)
        _check_free(store, root, output, overwrite=overwrite)
    yield folder
    try:
        upload_dataset(folder, output, overwrite=overwrite)
    except StorageError as error:
        raise StorageError(f"{error}. The dataset is complete in {folder}; {finish}") from error
    shutil.rmtree(folder)


def upload_dataset(
    directory: str | Path,
    url: str,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Copy a complete dataset to ``url``, its manifest last.

    ``progress(done, total)`` counts bytes.

    Raises:
        UsageError: a dataset is there already and ``overwrite`` is not set.
        StorageError: the store refused; without its manifest, what has arrived is no dataset.
    """
    folder = Path(directory)
    manifest = read_manifest(folder)
    files = {name: info.size_bytes for name, info in manifest.paths().items()}
    files[SUMS_NAME] = (folder / SUMS_NAME).stat().st_size
    total, done = sum(files.values()), 0
    with storage_errors(url):
        store, root = open_filesystem(url)
        target = posixpath.join(root, MANIFEST_NAME)
        if _check_free(store, root, url, overwrite=overwrite):
            store.rm_file(target)  # from here to the end there is no dataset
        for name, size in files.items():
            _put(store, folder / name, posixpath.join(root, name), size)
            done += size
            if progress is not None:
                progress(done, total)
        store.pipe_file(target, manifest.to_bytes())


def _check_free(store: Any, root: str, url: str, *, overwrite: bool) -> bool:
    """Tell whether a dataset is there that is to be replaced. Raises UsageError where it is not to be."""
    store.invalidate_cache()
    exists = bool(store.exists(posixpath.join(root, MANIFEST_NAME)))
    if exists and not overwrite:
        raise UsageError(f"{url} holds a dataset already; choose another address, or add --overwrite")
    return exists


def _put(store: Any, source: Path, target: str, size: int) -> None:
    if source.stat().st_size != size:
        raise DamagedError(f"{source} has another size than the manifest says; run `tokpack verify`")
    store.makedirs(posixpath.dirname(target), exist_ok=True)
    store.put_file(str(source), target)
    store.invalidate_cache(posixpath.dirname(target))
    if (arrived := store.size(target)) != size:
        raise StorageError(f"{target} arrived with {arrived} bytes instead of {size:,}; upload it again")


def download_dataset(
    url: str,
    output: str | Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Copy the dataset at ``url`` to the folder ``output``, checking every file against the manifest.

    Raises:
        StorageError: there is no dataset, or the store refused.
        DamagedError: a file is not what the manifest says; nothing stands at ``output``.
    """
    with storage_errors(url):
        store, root = open_filesystem(url)
        manifest, content = _read_manifest(store, url, root)
    total, done = sum(info.size_bytes for info in manifest.paths().values()), 0
    with open_workspace(Path(output), overwrite=overwrite) as workspace:
        workspace.require_new()
        folder = workspace.dataset
        (folder / "tokenizer").mkdir()
        for name, info in manifest.paths().items():
            with storage_errors(f"{url.rstrip('/')}/{name}"):
                _get(store, posixpath.join(root, name), folder / name, info)
            done += info.size_bytes
            if progress is not None:
                progress(done, total)
        sync_directory(folder / "tokenizer")
        write_file(folder / SUMS_NAME, manifest.checksums().encode())
        write_file(folder / MANIFEST_NAME, content)
        workspace.commit(overwrite=overwrite)
    return manifest


def _read_manifest(store: Any, url: str, root: str) -> tuple[Manifest, bytes]:
    target = posixpath.join(root, MANIFEST_NAME)
    if not store.exists(target):
        raise StorageError(
            f"{url} holds no {MANIFEST_NAME}: there is no dataset, or its upload was not completed"
        )
    size = store.size(target)
    if size is None or size > _MAX_MANIFEST:
        raise DamagedError(f"{url}/{MANIFEST_NAME} is too large for a manifest of tokpack")
    content: bytes = store.cat_file(target)
    return decode_manifest(content, Path(f"{url.rstrip('/')}/{MANIFEST_NAME}")), content


def _get(store: Any, source: str, target: Path, info: FileInfo) -> None:
    """Copy one file, never more of it than the manifest says."""
    digest, left = hashlib.sha256(), info.size_bytes
    with store.open(source, "rb") as remote, publish(target) as file:
        while left and (block := remote.read(min(left, _BLOCK_BYTES))):
            digest.update(block)
            file.write(block)
            left -= len(block)
        longer = bool(remote.read(1))
    if left or longer or digest.hexdigest() != info.sha256:
        raise DamagedError(f"{source} is not what the manifest says; upload the dataset again")
