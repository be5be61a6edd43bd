"""Reading documents: tokpack's sources against the loop that everybody writes.

    python benchmarks/sources.py --megabytes 100 --rounds 5

Texts are Python's own sources, found on every machine: one file with a separator between modules, its lines,
and the same modules as JSON lines, ASCII and not. Both sides take turns in one process on one core and give
documents as UTF-8; figures are megabytes of input per second of CPU time, medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tokpack.protocols import Source, SourceOptions
from tokpack.sources import jsonl, text

SEPARATOR = "<|endoftext|>"


def modules() -> list[str]:
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    return [
        content for file in files if (content := file.read_text(errors="replace")) and len(content) < 1 << 20
    ]


def write_inputs(folder: Path, megabytes: int) -> dict[str, Path]:
    once = modules()
    documents = once * (megabytes * 10**6 // sum(map(len, once)) + 1)
    paths = {name: folder / name for name in ("modules.txt", "lines.txt", "ascii.jsonl", "cyrillic.jsonl")}
    paths["modules.txt"].write_bytes(f"\n{SEPARATOR}\n".join(documents).encode())
    paths["lines.txt"].write_bytes("\n".join(documents).encode())
    shifted = str.maketrans({chr(ord("a") + at): chr(ord("а") + at) for at in range(26)})
    for name, change in (
        ("ascii.jsonl", str),
        ("cyrillic.jsonl", lambda document: document.translate(shifted)),
    ):
        lines = (json.dumps({"text": change(document)}, ensure_ascii=False) for document in documents)
        paths[name].write_text("\n".join(lines))
    return paths


def plain_modules(path: Path) -> Iterator[bytes]:
    for document in path.read_bytes().decode().split(SEPARATOR):
        yield document.encode()


def plain_lines(path: Path) -> Iterator[bytes]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.removesuffix("\n").encode()


def plain_jsonl(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)["text"].encode()


def measure(
    source: Source, plain: Callable[[Path], Iterator[bytes]], path: Path, rounds: int
) -> tuple[float, float]:
    def ours() -> int:
        parts = source.plan(str(path), slice_bytes=64 << 20)
        return sum(batch.texts.nbytes for part in parts for batch in source.read(part))

    def theirs() -> int:
        return sum(map(len, plain(path)))

    assert ours() == theirs(), path.name
    seconds: dict[Callable[[], int], list[float]] = {ours: [], theirs: []}
    for _ in range(rounds):
        for side, times in seconds.items():
            start = time.process_time()
            side()
            times.append(time.process_time() - start)
    size = path.stat().st_size / 1e6
    return size / statistics.median(seconds[ours]), size / statistics.median(seconds[theirs])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    separated = text.open_source(SourceOptions(split="separator", separator=SEPARATOR))
    lines = text.open_source(SourceOptions(split="lines"))
    objects = jsonl.open_source(SourceOptions())
    sides: dict[str, tuple[Source, Callable[[Path], Iterator[bytes]]]] = {
        "modules.txt": (separated, plain_modules),
        "lines.txt": (lines, plain_lines),
        "ascii.jsonl": (objects, plain_jsonl),
        "cyrillic.jsonl": (objects, plain_jsonl),
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = write_inputs(Path(folder), given.megabytes)
        print(f"{'input':16} {'tokpack':>9} {'plain':>9}  ratio   (MB/s of CPU time)")
        for name, (source, plain) in sides.items():
            ours, theirs = measure(source, plain, paths[name], given.rounds)
            print(f"{name:16} {ours:9.0f} {theirs:9.0f}  {ours / theirs:5.1f}")


if __name__ == "__main__":
    main()
