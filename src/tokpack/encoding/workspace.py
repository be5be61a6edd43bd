"""``NAME.partial``: where an encode works until its dataset is complete, and how that becomes ``NAME``.

Layout: ``lock``, ``plan.json`` (what is being made, so that only the same command continues it), ``journal``,
``units/`` (pieces), ``stdin.*`` (standard input, kept for resuming) and ``dataset/``, which one rename makes
the final directory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from tokpack.dataset.publish import (
    DirectoryLock,
    exchange_directories,
    publish,
    restore_exchanged,
    storage_error,
    sync_directory,
    write_file,
)
from tokpack.errors import MismatchError, UsageError
from tokpack.urls import collapsed_url

__all__ = ["Workspace", "open_workspace", "stdin_suffix"]


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder of unfinished work of one output directory, locked by this process."""

    output: Path
    folder: Path

    @property
    def dataset(self) -> Path:
        """The dataset in the making."""
        return self.folder / "dataset"

    @property
    def units(self) -> Path:
        """Pieces of finished units."""
        return self.folder / "units"

    @property
    def journal(self) -> Path:
        """Records of finished work."""
        return self.folder / "journal"

    @property
    def plan(self) -> Path:
        """What is being made."""
        return self.folder / "plan.json"

    @property
    def has_work(self) -> bool:
        """Whether there is earlier work to continue: at least one finished unit, and what it was for."""
        return self.journal.exists() and self.journal.stat().st_size > 0 and self.plan.exists()

    def bind(self, plan: dict[str, Any]) -> None:
        """Note what is being made, or check that earlier work was for the very same.

        Raises:
            MismatchError: earlier work was begun with other inputs or options; names the first difference.
        """
        now = msgspec.json.decode(msgspec.json.encode(plan))
        if self.has_work and (difference := _difference(_resumable(self.plan), now)) is not None:
            raise MismatchError(
                f"{self.folder} holds unfinished work that was begun with {difference}; "
                "run that command again to continue it, or add --overwrite to begin anew"
            )
        write_file(self.plan, msgspec.json.encode(now, order="sorted"))

    def require_new(self) -> None:
        """Refuse earlier work: what cannot be continued must not destroy it either.

        Raises:
            MismatchError: an encode into this output was begun and not finished.
        """
        if self.has_work:
            raise MismatchError(
                f"{self.folder} holds an unfinished encode; finish it, or add --overwrite to drop it"
            )

    def spool(self, stream: BinaryIO, suffix: str | None) -> Path | None:
        """Keep standard input in a file; None when it is empty. Resuming compares it with what was kept.

        Raises:
            MismatchError: earlier work was begun with other standard input.
        """
        temporary = self.folder / "stdin.new"
        with publish(temporary) as file:
            first = b""
            while block := stream.read(1 << 20):
                first = first or block
                file.write(block)
        if not first:
            temporary.unlink()
            return None
        path = self.folder / f"stdin{suffix or stdin_suffix(first)}"
        if path.exists() and not _same_content(path, temporary):
            temporary.unlink()
            raise MismatchError(
                f"{self.folder} holds unfinished work that was begun with other standard input; "
                "pipe the same in again, or add --overwrite to begin anew"
            )
        temporary.replace(path)
        return path

    def commit(self, *, overwrite: bool) -> None:
        """Make the finished dataset appear under its final name, in one step. Raises StorageError."""
        try:
            sync_directory(self.dataset)
            if overwrite and self.output.exists():
                exchange_directories(self.dataset, self.output)
            else:
                self.dataset.rename(self.output)
            sync_directory(self.output.parent)
        except OSError as error:
            raise storage_error(error, self.output) from error


@contextmanager
def open_workspace(output: Path, *, overwrite: bool) -> Iterator[Workspace]:
    """Lock and prepare ``NAME.partial`` beside ``output``; remove it when all went well or nothing was done.

    Raises:
        UsageError: ``output`` exists already and ``overwrite`` is not set.
        LockedError: another process works there.
        StorageError: the folder cannot be made.
    """
    if (url := collapsed_url(output)) is not None:
        raise UsageError(f"{url} is no folder; make the dataset in one, then: tokpack copy FOLDER URL")
    output = Path(output.absolute())
    _check_free(output, overwrite)
    workspace = Workspace(output, output.with_name(output.name + ".partial"))
    lock = DirectoryLock(workspace.folder)
    lock.acquire()
    try:
        restore_exchanged(workspace.dataset, output)
        _check_free(output, overwrite)  # restored just now, or completed by another while this one waited
        # Without a dataset in the making, what lies here was left behind by a commit that was interrupted.
        if overwrite or not workspace.has_work or not workspace.dataset.exists():
            _clear(workspace.folder)
        for folder in (workspace.dataset, workspace.units):
            folder.mkdir(exist_ok=True)
        yield workspace
        done = True
    except UsageError:
        done = True  # asked for differently, it will be other work
        raise
    except OSError as error:
        done = not workspace.has_work
        raise storage_error(error, workspace.folder) from error
    except BaseException:
        done = not workspace.has_work
        raise
    finally:
        if done:  # before the lock is given back: from then on the folder may be another's
            with suppress(OSError):
                _clear(workspace.folder)
        lock.release()


def _check_free(output: Path, overwrite: bool) -> None:
    if output.exists() and not overwrite:
        raise UsageError(
            f"{output} exists already; choose another --output, or replace it with --overwrite "
            "(the old one stays until the new one is complete)"
        )


def _clear(folder: Path) -> None:
    """Remove earlier work, but not the lock. The journal goes first: without it, the rest is no work."""
    (folder / "journal").unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


def _resumable(path: Path) -> dict[str, Any]:
    """Return the plan of earlier work, without what did not matter to it.

    Work that was to fail at the first broken document has met none so far: it goes on under any policy.
    """
    plan: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    if plan["options"]["source"]["on_error"] == "fail":
        del plan["options"]["source"]["on_error"]
    return plan


def _difference(before: Any, now: Any, name: str = "") -> str | None:
    """Say in words where two plans differ first."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before and key != "on_error")]:
            label = f"{name}.{key}" if name else str(key)
            if (found := _difference(before.get(key), now.get(key), label)) is not None:
                return found
        return None
    return None if before == now else f"another {name}: {before!r}, now {now!r}"


def stdin_suffix(first: bytes) -> str:
    """Guess from its beginning what standard input holds: JSON lines or text."""
    return ".jsonl" if first.lstrip()[:1] == b"{" else ".txt"


def _same_content(left: Path, right: Path) -> bool:
    import filecmp

    return filecmp.cmp(left, right, shallow=False)
