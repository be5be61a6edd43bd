"""The folder of a run: its name, its lock, and what travels in it.

| in `runs/NAME/` | |
|---|---|
| `config.toml` | every setting |
| `run.json` | what was found out: device, parameters, dataset, tokenizer |
| `tokenizer/` | the dataset's tokenizer, so that the run can speak without the dataset |
| `metrics.jsonl`, `metrics.csv`, `samples.txt` | the course of training |
| `checkpoints/` | see `tokpack.train.checkpoint` |
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokpack.errors import DamagedError, LockedError, StorageError, UsageError
from tokpack.plugins import Plugins
from tokpack.protocols import Tokenizer, TokenizerOptions
from tokpack.references import Reference
from tokpack.specs import load
from tokpack.train.config import Settings
from tokpack.train.durable import sync, write_json
from tokpack.train.parsing import dump_toml, read_toml

__all__ = ["RunFolder"]


class RunFolder:
    """One run's folder, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @classmethod
    def create(cls, settings: Settings, default_name: str) -> RunFolder:
        """Make the folder of a new run and take it.

        Raises:
            UsageError: the name asked for is taken. StorageError: it cannot be made.
        """
        root, name = Path(settings.log.run_dir), settings.log.name
        try:
            root.mkdir(parents=True, exist_ok=True)
            for number in range(1, 10_000):
                path = root / (name or (default_name if number == 1 else f"{default_name}-{number}"))
                try:
                    path.mkdir()
                    return cls(path).take()
                except FileExistsError:
                    if name:
                        cls(path).take().release()  # says so if it is in use
                        raise UsageError(
                            f"{path} exists; continue it with --resume {path}, or choose another log.name"
                        ) from None
        except OSError as error:
            raise StorageError(f"cannot make a run folder in {root}: {error.strerror}") from error
        raise UsageError(f"{root} holds too many runs named {default_name}; set log.name")

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Find the folder of a run that was begun.

        Raises:
            UsageError: it is none.
        """
        if not (path / "config.toml").is_file():
            raise UsageError(f"{path} is no run folder: it holds no config.toml; give runs/NAME")
        return cls(path)

    def take(self) -> RunFolder:
        """Hold the folder until this process ends.

        Raises:
            LockedError: another process trains in it.
        """
        self._lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise LockedError(
                f"{self.path} is in use: another process trains there; wait for it or stop it first"
            ) from None
        return self

    def release(self) -> None:
        """Let go."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write(self, settings: Settings, facts: Mapping[str, Any]) -> None:
        """Save the settings and what was found out."""
        text = dump_toml(settings)
        partial = self.path / ".config.toml.partial"
        partial.write_text(text, encoding="utf-8")
        sync(partial)
        partial.replace(self.path / "config.toml")
        write_json(self.path / "run.json", facts)

    def values(self) -> dict[str, Any]:
        """Return the saved settings as nested mappings."""
        return read_toml(self.path / "config.toml")

    def facts(self) -> dict[str, Any]:
        """Return what was found out when the run began."""
        path = self.path / "run.json"
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise DamagedError(f"{path} is not a regular file; restore it from a copy")
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"{path} is damaged: {error}") from error
        if not isinstance(facts, dict):
            raise DamagedError(f"{path} is damaged: it holds no object")
        return facts

    def copy_tokenizer(self, source: Path) -> None:
        """Take the dataset's tokenizer along."""
        if source.is_dir():
            shutil.copytree(source, self.path / "tokenizer", dirs_exist_ok=True)

    def open_tokenizer(self, plugins: Plugins) -> Tokenizer:
        """Open the tokenizer that travelled with the run; needs its backend installed, but no network."""
        backend = Reference.parse(str(self.facts().get("tokenizer", ""))).backend
        directory = self.path / "tokenizer"
        model = str(directory) if directory.is_dir() and any(directory.iterdir()) else ""
        tokenizer: Tokenizer = load(plugins.tokenizers[backend].open)(model, TokenizerOptions())
        return tokenizer
