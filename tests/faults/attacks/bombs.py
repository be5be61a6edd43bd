"""Little that becomes much, or that takes for ever."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import zstandard
from attacks.case import Attack
from attacks.pickles import canonical, reseal

MUCH = 48 << 20  # decompressed; tokpack is told to take documents of 1 MiB at most
_DEEP = 100_000


def write(name: str, content: Callable[[], bytes], path: Path) -> None:
    (path.parent / path.name).mkdir(exist_ok=True)
    (path / name).write_bytes(content())


def zipped() -> bytes:
    return gzip.compress(b'{"text": "' + b"a" * MUCH + b'"}\n', 9)


def twice_zipped() -> bytes:
    """Two members: whoever looks at the size in the last one believes in a few bytes."""
    return zipped() + gzip.compress(b'{"text": "b"}\n')


def frame() -> bytes:
    return zstandard.ZstdCompressor(level=19).compress(b'{"text": "' + b"a" * MUCH + b'"}\n')


def nested() -> bytes:
    return b'{"text": ' + b"[" * _DEEP + b"]" * _DEEP + b"}\n"


def nested_elsewhere() -> bytes:
    """Beside a text that is good: only readers who decode it all are hit."""
    return b'{"more": ' + b'{"a":' * _DEEP + b"1" + b"}" * _DEEP + b', "text": "good"}\n'


def digits() -> bytes:
    return b'{"text": ' + b"9" * 100_000 + b"}\n"


def open_quote() -> bytes:
    return b'text\n"' + b"a,b\n" * (2 << 20)


def one_line() -> bytes:
    return b"a" * (8 << 20)


def inflates(name: str, path: Path) -> bool:
    content = (path / name).read_bytes()
    if name.endswith(".gz"):
        return len(gzip.decompress(content)) >= MUCH > 100 * len(content)
    return zstandard.ZstdDecompressor().stream_reader(content).read(MUCH)[-1:] == b"a"


def overflows(name: str, path: Path) -> bool:
    try:
        json.loads((path / name).read_bytes())
    except (RecursionError, ValueError) as error:
        return isinstance(error, RecursionError) or "digits" in str(error)
    return False


def swallows(name: str, path: Path) -> bool:
    """A row, or a line, that is the whole rest of the file."""
    text = (path / name).read_text()
    if name.endswith(".csv"):
        try:
            return max(len(row[0]) for row in csv.reader(io.StringIO(text))) > 1 << 20
        except csv.Error as error:
            return "field larger" in str(error)
    return max(map(len, text.splitlines())) > 1 << 20


def shard_bomb(good: str, target: str, path: Path) -> None:
    """A shard of JSON lines that decompresses to far more than a line may have, with hashes that agree."""
    line = b'{"input_ids":[' + b"1," * (12 << 20) + b"1]}\n"
    compressed = (
        gzip.compress(line, 9) if target.endswith("gz") else zstandard.ZstdCompressor(level=9).compress(line)
    )
    (path / target).write_bytes(compressed)
    reseal(path, target, compressed)


def shard_inflates(target: str, path: Path) -> bool:
    content = (path / target).read_bytes()
    if target.endswith("gz"):
        return len(gzip.decompress(content)) > 100 * len(content)
    return len(zstandard.ZstdDecompressor().stream_reader(content).read(24 << 20)) == 24 << 20


def deep_file(target: str, path: Path) -> None:
    (path / target).write_bytes(b"[" * _DEEP + b"]" * _DEEP)


def huge_counts(path: Path) -> None:
    """A manifest that promises 2**53 - 1 documents: whoever makes room for their offsets has none left."""
    manifest = json.loads((path / "manifest.json").read_text())
    split = manifest["splits"]["train"]
    split["documents"] = split["shards"][0]["documents"] = 2**53 - 1
    (path / "manifest.json").write_text(canonical(manifest))


def makes_room(path: Path) -> bool:
    return int(json.loads((path / "manifest.json").read_text())["splits"]["train"]["documents"]) * 8 > 1 << 50


def _attacks() -> Iterator[Attack]:
    for name, content, victim in (
        ("a.jsonl.gz", zipped, inflates),
        ("b.jsonl.gz", twice_zipped, inflates),
        ("a.jsonl.zst", frame, inflates),
        ("a.txt.gz", zipped, inflates),
        ("a.txt.zst", frame, inflates),
        ("a.jsonl", nested, overflows),
        ("b.jsonl", nested_elsewhere, overflows),
        ("c.jsonl", digits, overflows),
        ("a.csv", open_quote, swallows),
        ("d.jsonl", one_line, swallows),
        ("a.txt", one_line, swallows),
    ):
        prepare = partial(write, name, content)
        yield Attack(f"source {name}: {content.__name__}", f"source:{name}", prepare, partial(victim, name))
    for good, target in (("jsonl-gz", "train-00000.jsonl.gz"), ("jsonl-zst", "train-00000.jsonl.zst")):
        prepare, victim = partial(shard_bomb, good, target), partial(shard_inflates, target)
        yield Attack(f"{good}: a shard", good, prepare, victim)
    step = "checkpoints/step-00000001/"
    for good, target in (
        ("bin", "manifest.json"),
        ("checkpoint", f"{step}checkpoint.json"),
        ("checkpoint", "checkpoints/best.json"),
        ("tokenizer", "tokenizer.json"),
        ("tokenizer", "tokenizer_config.json"),
    ):
        deep = partial(deep_file, target)
        yield Attack(f"{good}, {target}: nested without end", good, deep, partial(overflows, target))
    yield Attack("bin: a manifest of 2**53 - 1 documents", "bin", huge_counts, makes_room)


ATTACKS = list(_attacks())
