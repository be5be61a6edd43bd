"""From what a person typed to an ordered list of input files."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokpack.errors import StorageError, UsageError
from tokpack.plugins import Registry
from tokpack.protocols import SourceOptions
from tokpack.specs import SourceSpec, load
from tokpack.urls import expand, input_size, is_url

__all__ = ["TRAIN", "VALIDATION", "InputFile", "find_inputs", "natural_key"]

#: The splits that inputs belong to unless they are named otherwise.
TRAIN, VALIDATION = "train", "validation"

_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to read: its path, the name the manifest gives it, its source plugin and its split."""

    path: str
    name: str
    kind: str
    split: str
    size_bytes: int


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Order that people expect: part-2 before part-10."""
    pieces = re.split(r"(\d+)", text)
    return tuple((1, int(piece)) if piece.isdigit() else (0, piece) for piece in pieces)


def find_inputs(
    inputs: Sequence[str],
    *,
    validation: Sequence[str] = (),
    splits: Mapping[str, Sequence[str]] | None = None,
    input_format: str | None = None,
    sources: Registry[SourceSpec],
) -> list[InputFile]:
    """Expand files, folders, globs, URLs and references of every split, in natural order per argument.

    A file named for another split is left out of ``train``, so that it never sits in both.

    Raises:
        StorageError: an input does not exist or cannot be read.
        UsageError: nothing was found, or no source plugin reads a file.
    """
    if input_format is not None:
        sources[input_format]  # an unknown name fails here, with the list of what is installed
    wanted = {TRAIN: list(inputs)}
    for name, patterns in {VALIDATION: validation, **(splits or {})}.items():
        if patterns:
            wanted.setdefault(name, []).extend(patterns)
    paths = {split: _expand(patterns, sources, input_format) for split, patterns in wanted.items()}
    held_out = {os.path.realpath(path) for split, found in paths.items() if split != TRAIN for path in found}
    paths[TRAIN] = {
        path: kind for path, kind in paths[TRAIN].items() if os.path.realpath(path) not in held_out
    }
    found = [(split, path, kind) for split, listed in paths.items() for path, kind in listed.items()]
    if not found:
        raise UsageError(
            f"no input in {', '.join(map(str, inputs)) or 'nothing'}; name files that end in one of: "
            f"{', '.join(_suffixes(sources))}"
        )
    names = _names([path for _, path, _ in found])
    return [
        _input_file(path, names[path], kind or input_format, split, sources) for split, path, kind in found
    ]


def _expand(
    patterns: Iterable[str], sources: Registry[SourceSpec], input_format: str | None
) -> dict[str, str | None]:
    """Return paths and URLs in order, each with the source that a reference asked for, if any."""
    schemes = {scheme: spec for spec in sources.values() for scheme in spec.schemes}
    found: dict[str, str | None] = {}
    for pattern in patterns:
        scheme, _, rest = pattern.partition(":")
        if is_url(pattern):
            found |= dict.fromkeys(_remote(pattern, sources, input_format))
            continue
        if scheme in schemes and not Path(pattern).exists():
            spec = schemes[scheme]
            found |= dict.fromkeys(load(spec.open)(SourceOptions()).resolve(rest), spec.name)
            continue
        matches = [pattern]
        if _MAGIC.search(pattern) and not Path(pattern).exists():
            matches = sorted(glob.glob(pattern, recursive=True), key=natural_key)  # noqa: PTH207
            if not matches:
                raise StorageError(f"no file matches {pattern!r}; quote the pattern and check the folder")
        for match in matches:
            listed = _walk(match, sources, input_format) if Path(match).is_dir() else [match]
            found |= dict.fromkeys(listed)
    return found


def _remote(url: str, sources: Registry[SourceSpec], input_format: str | None) -> list[str]:
    """Expand a URL: the file it names, what its pattern matches, or what a folder holds that can be read."""
    found = expand(url)
    if not found:
        raise StorageError(f"nothing is there at {url}; check the address and quote the pattern")
    if found == [url]:
        return found
    if not _MAGIC.search(url):
        found = [name for name in found if name.endswith(_wanted(sources, input_format))]
    return sorted(found, key=natural_key)


def _wanted(sources: Registry[SourceSpec], input_format: str | None) -> tuple[str, ...]:
    return sources[input_format].suffixes if input_format else tuple(_suffixes(sources))


def _walk(directory: str, sources: Registry[SourceSpec], input_format: str | None) -> list[str]:
    suffixes = _wanted(sources, input_format)
    found = []
    for folder, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            str(Path(folder, name)) for name in files if name.endswith(suffixes) and not name.startswith(".")
        ]
    return sorted(found, key=natural_key)


def _suffixes(sources: Registry[SourceSpec]) -> list[str]:
    return sorted({suffix for spec in sources.values() for suffix in spec.suffixes})


def _kind(path: str, sources: Registry[SourceSpec]) -> str:
    matches = [
        (len(suffix), name)
        for name, spec in sources.items()
        for suffix in spec.suffixes
        if path.endswith(suffix)
    ]
    if not matches:
        raise UsageError(
            f"no source plugin reads {path}; known endings: {', '.join(_suffixes(sources))}. "
            "Say what it is with --input-format text, or install a plugin (tokpack-parquet, tokpack-arrow)"
        )
    return max(matches)[1]


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Name each file relative to the inputs' common folder: independent of where that folder lies."""
    # Links are kept as they are. URLs have a common folder of their own.
    local = {path: os.path.abspath(path) for path in paths if not is_url(path)}  # noqa: PTH100
    remote = {path: "/" + path.replace("://", "/").replace("//", "/") for path in paths if is_url(path)}
    return _relative(local) | _relative(remote)


def _relative(absolute: Mapping[str, str]) -> dict[str, str]:
    if not absolute:
        return {}
    common = os.path.commonpath([os.path.dirname(path) for path in absolute.values()])  # noqa: PTH120
    return {path: Path(os.path.relpath(full, common)).as_posix() for path, full in absolute.items()}


def _input_file(
    path: str, name: str, kind: str | None, split: str, sources: Registry[SourceSpec]
) -> InputFile:
    size = input_size(path) if is_url(path) else _readable_size(path, name)
    return InputFile(path, name, kind or _kind(path, sources), split, size)


def _readable_size(path: str, name: str) -> int:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"the name of {path!r} is not valid UTF-8, so a manifest cannot hold it; rename the file"
        ) from None
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):  # asked before opening, which would wait for a pipe's writer
            raise UsageError(f"{path} is not a regular file; pipe it in instead: tokpack encode < {path}")
        with Path(path).open("rb"):
            return status.st_size
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror}; check the path and its permissions"
        ) from error
