"""Claim: `tokpack verify` runs at 90 % or more of the machine's own parallel SHA-256 rate, warm.

Writes a dataset of one `train.bin` (the default layout), then times, in turn, the whole verification and
plain SHA-256 of buffers in memory on as many threads.

    python benchmarks/verify.py [--megabytes 1000] [--threads 2] [--rounds 5]
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import tokpack
from tokpack.dataset.verify import verify_dataset


def hash_memory(buffers: list[memoryview], threads: int) -> float:
    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda buffer: hashlib.sha256(buffer).digest(), buffers))
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000, help="size of train.bin")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        with (folder / "a.txt").open("wb") as file:
            for _ in range(arguments.megabytes // 2):
                line = rng.integers(97, 123, 1_000_000, dtype=np.uint8)
                line[::1000] = 10
                file.write(line.tobytes())
        tokpack.encode(folder / "a.txt", folder / "set", tokenizer="byte", text_split="lines", workers=2)
        size = (folder / "set" / "train.bin").stat().st_size
        block = 1 << 21
        buffers = [memoryview(bytes(block)) for _ in range(size // block)]
        rates = []
        for _ in range(arguments.rounds + 1):
            begun = time.perf_counter()
            report = verify_dataset(folder / "set", threads=arguments.threads)
            seconds = time.perf_counter() - begun
            assert report.exit_code == 0
            memory = hash_memory(buffers, arguments.threads)
            rates.append((report.bytes_hashed / seconds / 1e9, len(buffers) * block / memory / 1e9))
        ours, ceiling = (statistics.median(column) for column in zip(*rates[1:], strict=True))
        share = statistics.median(left / right for left, right in rates[1:])
        print(
            f"train.bin of {size / 1e6:.0f} MB, {arguments.threads} threads: verify {ours:.2f} GB/s, "
            f"SHA-256 of memory {ceiling:.2f} GB/s, share {share:.0%}"
        )


if __name__ == "__main__":
    main()
