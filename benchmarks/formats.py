"""Storage formats: writing, reading, opening and size, beside pyarrow's own write and Hugging Face datasets.

    python benchmarks/formats.py --tokens 16000000 --rounds 5 --json benchmarks/results/formats.json \\
        --encode stories.txt --tokenizer tiktoken:gpt2

Every side takes turns in one process; numbers are medians of the rounds. MB are of tokens in storage dtype
(uint16), so formats compare whatever their size on disk. "Open" is a new reader up to its length and one read
of ten tokens; "gather" is 256 random rows of 1,024 tokens, a training batch. Files lie in a temporary folder
and are in the page cache when they are read: this measures formats, not disks.

"Open at" is the same for bin and arrow files that hold the tokens once and many times over. With ``--encode``
the whole of `tokpack.encode` is timed for each format in turns, one process, and put in relation to bin.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tokpack.batches import TokenBatch, iter_ranges, offsets_from_lengths
from tokpack.dtypes import DTYPES
from tokpack.plugins import discover
from tokpack.specs import load

U16 = DTYPES["uint16"]
KINDS: list[tuple[str, str, dict[str, str]]] = [
    ("bin", "bin", {}),
    ("npy", "npy", {}),
    ("megatron", "megatron", {}),
    ("arrow", "arrow", {}),
    ("parquet zstd", "parquet", {}),
    ("parquet zstd, plain", "parquet", {"encoding": "plain"}),
    ("parquet snappy", "parquet", {"compression": "snappy"}),
    ("parquet none", "parquet", {"compression": "none"}),
    ("jsonl", "jsonl", {}),
    ("jsonl-zst", "jsonl-zst", {}),
]


@dataclass
class Side:
    """One competitor: ``write(path)``, then ``open(path)``, whose result is read whole and gathered from."""

    name: str
    write: Callable[[Path], None]
    open: Callable[[Path], Any]
    read: Callable[[Any], int]
    gather: Callable[[Any], None] | None = None
    suffix: str = ""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    disk_bytes: int = 0

    def measure(self, what: str, work: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        result = work()
        self.seconds.setdefault(what, []).append(time.perf_counter() - begun)
        return result


def tokens_like_text(count: int) -> TokenBatch:
    """Ids as frequent as words are (Zipf's law over 50,257 ids), documents of 20 to 2,000 tokens."""
    rng = np.random.default_rng(0)
    ranks = (np.exp(rng.random(count) * np.log(50_257)) - 1).astype(np.uint16)
    lengths = rng.integers(20, 2_000, count // 1_000)
    lengths = lengths[np.cumsum(lengths) < count]
    offsets = offsets_from_lengths(lengths, len(lengths))
    return TokenBatch(rng.permutation(50_257).astype(np.uint16)[ranks][: offsets[-1]], offsets)


def batches_of(batch: TokenBatch) -> Iterator[TokenBatch]:
    """Cut as the encoder does: about a million tokens at a time."""
    for first, last in iter_ranges(batch.offsets, 1 << 20):
        start, stop = int(batch.offsets[first]), int(batch.offsets[last])
        yield TokenBatch(batch.tokens[start:stop], batch.offsets[first : last + 1] - start)


def tokpack_side(name: str, format_name: str, options: dict[str, str], batch: TokenBatch, rows: Any) -> Side:
    spec = discover().formats[format_name]
    writer_type, reader_type = load(spec.writer), load(spec.reader)
    out = np.empty((len(rows), 1024), U16)

    def write(path: Path) -> None:
        with path.open("wb+", buffering=0) as file:
            writer = writer_type(file, U16, (), options)
            for part in batches_of(batch):
                writer.write(part)
            writer.close()

    def read(reader: Any) -> int:
        return sum(
            int(reader.read(at, at + (1 << 20)).sum(dtype=np.int64)) for at in range(0, len(reader), 1 << 20)
        )

    def gather(reader: Any) -> None:
        if hasattr(reader, "gather"):
            reader.gather(rows, out)
        else:
            whole = reader.read(0, len(reader))
            out[:] = np.lib.stride_tricks.sliding_window_view(whole, 1024)[rows]

    return Side(name, write, lambda path: reader_type(path, U16), read, gather, spec.suffix)


def lists_of(batch: TokenBatch) -> Any:
    import pyarrow as pa

    lists = pa.ListArray.from_arrays(pa.array(batch.offsets.astype(np.int32)), pa.array(batch.tokens))
    return pa.table({"input_ids": lists})


def pyarrow_side(name: str, batch: TokenBatch, **options: Any) -> Side:
    import pyarrow.parquet as pq

    def write(path: Path) -> None:
        pq.write_table(lists_of(batch), path, **options)

    def read(path: Path) -> int:
        column = pq.read_table(path, use_threads=False)["input_ids"]
        return sum(int(chunk.flatten().to_numpy().sum(dtype=np.int64)) for chunk in column.chunks)

    return Side(name, write, lambda path: path, read)


def datasets_side(batch: TokenBatch) -> Side:
    import datasets

    datasets.disable_progress_bars()

    def write(path: Path) -> None:
        # From an Arrow table: the quickest way in that it has.
        datasets.Dataset(lists_of(batch)).save_to_disk(str(path))

    def read(loaded: Any) -> int:
        total = 0
        for part in loaded.with_format("arrow").iter(batch_size=1000):
            total += int(part["input_ids"].combine_chunks().flatten().to_numpy().sum(dtype=np.int64))
        return total

    return Side("HF datasets, save_to_disk", write, lambda path: datasets.load_from_disk(str(path)), read)


def size_of(path: Path) -> int:
    return sum(
        item.stat().st_size for item in (path.rglob("*") if path.is_dir() else [path]) if item.is_file()
    )


def run(sides: list[Side], folder: Path, expected: int, rounds: int) -> None:
    for number in range(rounds):
        for index, side in enumerate(sides if number % 2 == 0 else sides[::-1]):
            path = folder / f"{number}-{index}{side.suffix}"
            side.measure("write", lambda side=side, path=path: side.write(path))
            side.disk_bytes = size_of(path)

            def opened(side: Side = side, path: Path = path) -> Any:
                reader = side.open(path)
                if side.gather is not None:
                    len(reader)
                    reader.read(0, 10)
                return reader

            reader = side.measure("open", opened)
            total = side.measure("read", lambda side=side, reader=reader: side.read(reader))
            assert total == expected, f"{side.name} read other tokens than were written"
            if side.gather is not None:
                side.measure("gather", lambda side=side, reader=reader: side.gather(reader))
            if path.is_file():
                path.unlink()


def open_at(folder: Path, batch: TokenBatch, times: list[int]) -> dict[str, dict[str, float]]:
    """Return the milliseconds to open a file and read ten tokens, by format and tokens in the file."""
    found: dict[str, dict[str, float]] = {}
    for name in ("bin", "arrow"):
        spec = discover().formats[name]
        for count in times:
            path = folder / f"{name}-{count}{spec.suffix}"
            with path.open("wb+", buffering=0) as file:
                writer = load(spec.writer)(file, U16, (), {})
                for _ in range(count):
                    writer.write(batch)
                writer.close()
            seconds = []
            for _ in range(7):
                begun = time.perf_counter()
                reader = load(spec.reader)(path, U16)
                assert len(reader) == count * len(batch.tokens)
                reader.read(0, 10)
                seconds.append(time.perf_counter() - begun)
            found.setdefault(name, {})[f"{len(reader):,}"] = round(statistics.median(seconds) * 1e3, 3)
            path.unlink()
    return found


def encode_rates(folder: Path, text: Path, tokenizer: str, rounds: int) -> dict[str, float]:
    """Return the rate of encoding ``text`` to each format, in MB of text per second."""
    from tokpack import encode

    names = [name for name in ("bin", "npy", "arrow", "parquet", "jsonl") if name in discover().formats]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            begun = time.perf_counter()
            encode(text, folder / "encoded", tokenizer=tokenizer, format=name, overwrite=True)
            seconds[name].append(time.perf_counter() - begun)
    return {name: text.stat().st_size / statistics.median(taken) / 1e6 for name, taken in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=16_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    parser.add_argument("--encode", type=Path, help="a text to encode to each format")
    parser.add_argument("--tokenizer", default="byte", help="what --encode uses")
    arguments = parser.parse_args()
    batch = tokens_like_text(arguments.tokens)
    count = len(batch.tokens)
    rows = np.random.default_rng(1).integers(0, count - 1024, 256)
    sides = [tokpack_side(*kind, batch, rows) for kind in KINDS if kind[1] in discover().formats]
    sides.append(pyarrow_side("pyarrow write_table (snappy)", batch))
    sides.append(pyarrow_side("pyarrow write_table (zstd)", batch, compression="zstd"))
    sides.append(datasets_side(batch))
    with tempfile.TemporaryDirectory() as folder:
        run(sides, Path(folder), int(batch.tokens.sum(dtype=np.int64)), arguments.rounds)
        opened = open_at(Path(folder), batch, [1, 16])
        rates = (
            encode_rates(Path(folder), arguments.encode, arguments.tokenizer, arguments.rounds)
            if arguments.encode
            else {}
        )
    results = {}
    print(f"{count:,} tokens, {len(batch):,} documents, {arguments.rounds} rounds, medians\n")
    print(
        f"{'':30} {'write':>9} {'read':>9} {'write':>9} {'read':>9} {'bytes/':>7} {'open':>9} {'gather':>9}"
    )
    print(f"{'':30} {'MB/s':>9} {'MB/s':>9} {'Mtok/s':>9} {'Mtok/s':>9} {'token':>7} {'ms':>9} {'ms':>9}")
    for side in sides:
        median = {what: statistics.median(values) for what, values in side.seconds.items()}
        results[side.name] = {
            "write_mtok_s": round(count / median["write"] / 1e6, 1),
            "read_mtok_s": round(count / median["read"] / 1e6, 1),
            "bytes_per_token": round(side.disk_bytes / count, 3),
            "open_ms": round(median["open"] * 1e3, 3),
            "gather_ms": round(median["gather"] * 1e3, 3) if "gather" in median else None,
        }
        row = results[side.name]
        gather = f"{row['gather_ms']:9.2f}" if row["gather_ms"] is not None else f"{'':9}"
        print(
            f"{side.name:30} {2 * row['write_mtok_s']:9,.0f} {2 * row['read_mtok_s']:9,.0f} "
            f"{row['write_mtok_s']:9,.1f} {row['read_mtok_s']:9,.1f} {row['bytes_per_token']:7.2f} "
            f"{row['open_ms']:9.2f} {gather}"
        )
    for name, times in opened.items():
        print(f"open {name} at " + ", ".join(f"{size} tokens: {ms:.2f} ms" for size, ms in times.items()))
    for name, rate in rates.items():
        print(f"encode to {name:10} {rate:8.2f} MB/s, {rate / rates['bin']:.2f} of bin")
    if arguments.json is not None:
        machine = {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        arguments.json.write_text(
            json.dumps(
                {
                    "tokens": count,
                    **machine,
                    "results": results,
                    "open_ms_at": opened,
                    "encode_mb_s": {name: round(rate, 2) for name, rate in rates.items()},
                    "encode_of_bin": {name: round(rate / rates["bin"], 3) for name, rate in rates.items()},
                    "encode_tokenizer": arguments.tokenizer if rates else None,
                },
                indent=2,
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
