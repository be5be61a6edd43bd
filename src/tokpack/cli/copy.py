"""`tokpack copy`: a dataset to or from an object store."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from tokpack.cli.console import format_seconds, stderr
from tokpack.encoding.transfer import download_dataset, upload_dataset
from tokpack.errors import UsageError
from tokpack.urls import is_url

__all__ = ["copy"]


def copy(
    source: Annotated[str, typer.Argument(help="Folder or URL of a complete dataset.")],
    target: Annotated[str, typer.Argument(help="URL or folder to copy it to.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset that is there.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Upload a dataset, or download one: `s3://`, `gs://`, `https://`, `memory://` and whatever fsspec knows.

    Uploading, the manifest goes last: a dataset is there exactly when its manifest is. Downloading, every
    file is checked against the manifest before the folder gets its name.

    Examples: `tokpack copy tokenized s3://bucket/tokenized`, `tokpack copy s3://bucket/tokenized here`
    """
    if is_url(source) == is_url(target):
        raise UsageError("one of the two must be a URL and the other a folder, such as s3://bucket/tokenized")
    begun = time.monotonic()
    console = stderr()
    columns = (TextColumn("copying"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    shown = console.is_terminal and not quiet
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("copy", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if is_url(target):
            upload_dataset(source, target, overwrite=overwrite, progress=progress)
        else:
            download_dataset(source, target, overwrite=overwrite, progress=progress)
    if not quiet:
        typer.echo(f"{target} is complete, {format_seconds(time.monotonic() - begun)}")
