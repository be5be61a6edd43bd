"""What a power cut may leave of a recorded run: the un-synced applied, dropped, zeroed, garbled or torn.

The model is weaker than any file system in use. Only `fsync` makes anything last: of a file its content, of a
directory the names in it. Every write since then meets a fate of its own; of the changes of names that were
not synced any may be kept and any lost, in each directory by itself. A rename is atomic.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TypeAlias

from layer import Operation

FATES = ("applied", "dropped", "zeroed", "garbled", "torn")
Tree: TypeAlias = "dict[str, bytes | None]"  # path → content, None for a directory


@dataclass(slots=True, eq=False)
class _File:
    synced: bytes = b""
    content: bytes = b""
    pending: list[Operation] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Folder:
    synced: dict[str, _File | _Folder] = field(default_factory=dict)
    names: dict[str, _File | _Folder] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Change:
    """Entries that change together: (folder, name) → what it then names."""

    entries: dict[tuple[int, str], _File | _Folder | None]


class Disk:
    """A disk with a cache. ``apply`` follows a log, ``after_power_loss`` says what is left."""

    def __init__(self, root: str, tree: Tree) -> None:
        self._root = root
        self._top = _Folder()
        self._folders = {id(self._top): self._top}
        self._changes: list[_Change] = []
        for path, content in sorted(tree.items()):
            parent, name = self._parent(f"{root}/{path}")
            item = self._new_folder() if content is None else _File(content, content)
            parent.names[name] = parent.synced[name] = item

    def _new_folder(self) -> _Folder:
        folder = _Folder()
        self._folders[id(folder)] = folder
        return folder

    def _find(self, path: str) -> _File | _Folder:
        item: _File | _Folder = self._top
        for name in PurePosixPath(path).relative_to(self._root).parts:
            assert isinstance(item, _Folder)
            item = item.names[name]
        return item

    def _parent(self, path: str) -> tuple[_Folder, str]:
        pure = PurePosixPath(path)
        folder = self._find(str(pure.parent))
        assert isinstance(folder, _Folder)
        return folder, pure.name

    def _change(self, *entries: tuple[_Folder, str, _File | _Folder | None]) -> None:
        for folder, name, item in entries:
            if item is None:
                del folder.names[name]
            else:
                folder.names[name] = item
        self._changes.append(_Change({(id(folder), name): item for folder, name, item in entries}))

    def apply(self, operation: Operation) -> None:
        match operation.kind:
            case "create" | "mkdir":
                item = _File() if operation.kind == "create" else self._new_folder()
                self._change((*self._parent(operation.path), item))
            case "unlink" | "rmdir":
                self._change((*self._parent(operation.path), None))
            case "rename":
                item = self._find(operation.path)
                old, new = self._parent(operation.path), self._parent(operation.target)
                self._change((*old, None), (*new, item))
            case "exchange":
                left, right = self._find(operation.path), self._find(operation.target)
                self._change((*self._parent(operation.path), right), (*self._parent(operation.target), left))
            case "write" | "truncate":
                file = self._find(operation.path)
                assert isinstance(file, _File)
                file.content = _written(file.content, operation)
                file.pending.append(operation)
            case "sync":
                self._sync(self._find(operation.path))

    def _sync(self, item: _File | _Folder) -> None:
        if isinstance(item, _File):
            item.synced = item.content
            item.pending.clear()
            return
        waiting = []
        for change in self._changes:
            if any(folder == id(item) for folder, _ in change.entries):
                for older in waiting:  # of another folder: what is superseded can never come to be
                    for key in change.entries:
                        older.entries.pop(key, None)
                for (folder, name), target in change.entries.items():
                    _set(self._folders[folder].synced, name, target)
            else:
                waiting.append(change)
        self._changes = waiting

    def after_power_loss(self, rng: random.Random, fate: str | None = None) -> Tree:
        """Return what is found when the power is back; one ``fate`` for all that is un-synced, or any."""
        names = {key: dict(folder.synced) for key, folder in self._folders.items()}
        kept = rng.randrange(len(self._changes) + 1)
        in_order = rng.random() < 0.5  # as a journal keeps them: a beginning, and nothing after it
        for index, change in enumerate(self._changes):
            by_chance = index < kept if in_order else rng.random() < 0.5
            if by_chance if fate is None else fate != "dropped":
                for (folder, name), target in change.entries.items():
                    _set(names[folder], name, target)
        tree: Tree = {}
        self._walk(self._top, "", names, rng, fate, tree)
        return tree

    def _walk(
        self,
        folder: _Folder,
        prefix: str,
        names: dict[int, dict[str, _File | _Folder]],
        rng: random.Random,
        fate: str | None,
        tree: Tree,
    ) -> None:
        for name, item in names[id(folder)].items():
            path = prefix + name
            if isinstance(item, _Folder):
                tree[path] = None
                self._walk(item, path + "/", names, rng, fate, tree)
            else:
                tree[path] = _survivor(item, rng, fate)


def _set(names: dict[str, _File | _Folder], name: str, item: _File | _Folder | None) -> None:
    if item is None:
        names.pop(name, None)
    else:
        names[name] = item


def _written(content: bytes, operation: Operation, data: bytes | None = None) -> bytes:
    if operation.kind == "truncate":
        return content[: operation.offset]
    data = operation.data if data is None else data
    content = content.ljust(operation.offset, b"\0")
    return content[: operation.offset] + data + content[operation.offset + len(data) :]


def _survivor(file: _File, rng: random.Random, fate: str | None) -> bytes:
    content = file.synced
    for operation in file.pending:
        size = len(operation.data)
        match fate or rng.choice(FATES):
            case "applied":
                content = _written(content, operation)
            case "zeroed":
                content = _written(content, operation, bytes(size))
            case "garbled":
                content = _written(content, operation, rng.randbytes(size))
            case "torn":
                sector = rng.choice((512, 4096)) if size > 512 else max(1, size // 2)
                content = _written(content, operation, operation.data[: rng.randrange(0, size + 1, sector)])
    return content


def crash_states(
    root: str,
    before: Tree,
    log: list[Operation],
    states: int,
    rng: random.Random,
    promises: Collection[int] = (),
) -> Iterator[tuple[int, Tree]]:
    """Yield ``states`` different trees, each with the number of operations before the power went.

    From the numbers of operations in ``promises`` on more must hold, so what was seen before counts as new.
    """
    disk = Disk(root, before)
    points = len(log) + 1
    seen: set[int] = set()
    quota = 0.0
    for done in range(points):
        if done:
            disk.apply(log[done - 1])
        if done in promises:
            seen.clear()
        quota += states / points
        for attempt in range(3 * int(quota) + len(FATES)):
            if quota < 1:
                break
            tree = disk.after_power_loss(rng, FATES[attempt] if attempt < len(FATES) else None)
            key = hash(frozenset(tree.items()))
            if key not in seen:
                seen.add(key)
                quota -= 1
                yield done, tree
