"""Claim: encoding needs at most 256 MB + 64 MB per worker beyond the tokenizer, whatever the input's size.

Encodes a text file of 2 GB and prints the peak resident memory of the largest process (parent or worker),
less that of a process that has only opened the tokenizer.

    python benchmarks/memory.py [--megabytes 2000] [--workers 2] [--tokenizer byte]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

LINE = b"Once upon a time there was a little file that wanted to be a dataset when it grew up.\n"


def peak_megabytes(command: list[str]) -> float:
    """Run ``command`` in a child of its own and return its peak, or that of its largest child."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
    return int(done.stdout) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tokenizer", default="byte")
    arguments = parser.parse_args()
    tokpack = str(Path(sys.executable).with_name("tokpack"))
    opening = f"import tokpack; tokpack.open_tokenizer({arguments.tokenizer!r})"
    baseline = peak_megabytes([sys.executable, "-c", opening])
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name) / "corpus.txt"
        with corpus.open("wb") as file:
            block = (LINE * 20 + b"<|endoftext|>\n") * 500
            for _ in range(arguments.megabytes * 1_000_000 // len(block)):
                file.write(block)
        size = corpus.stat().st_size / 1e6
        command = [tokpack, "encode", str(corpus), "-t", arguments.tokenizer, "-o", str(Path(name) / "set")]
        peak = peak_megabytes([*command, "-j", str(arguments.workers), "--quiet"])
    print(
        f"{size:,.0f} MB of text, {arguments.workers} workers, {arguments.tokenizer}: the largest process "
        f"peaks at {peak:.0f} MB, with the tokenizer alone {baseline:.0f} MB: {peak - baseline:.0f} MB more"
    )


if __name__ == "__main__":
    main()
