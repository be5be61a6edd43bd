"""Claim: `tokpack encode` beats the preparation script that people write by hand, on the same cores.

The peer does what nanoGPT's and Megatron's preparation scripts do with the same tiktoken: a process pool,
``encode_ordinary`` per document, EOT after each, ``np.array`` and ``tofile``. Both run as whole processes,
interpreter start included, in turn; token files are compared byte for byte before anything is timed.

    python benchmarks/encode_cli.py [--megabytes 100] [--workers 2] [--rounds 3] [--engine auto|reference]

Needs tiktoken's gpt2 files (a network, or TIKTOKEN_CACHE_DIR).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine_text import iter_documents

PEER = """
import json, sys
from multiprocessing import Pool
import numpy as np
import tiktoken

encoding = tiktoken.get_encoding("gpt2")

def encode(line):
    ids = encoding.encode_ordinary(json.loads(line)["text"])
    ids.append(encoding.eot_token)
    return ids

def encode_text(text):
    ids = encoding.encode_ordinary(text)
    ids.append(encoding.eot_token)
    return ids

if __name__ == "__main__":
    source, output, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with open(source, encoding="utf-8", newline="") as file, open(output, "wb") as out, Pool(workers) as pool:
        if source.endswith(".jsonl"):
            work = pool.imap(encode, file, chunksize=16)
        else:
            work = pool.imap(encode_text, file.read().split("<|endoftext|>"), chunksize=16)
        for ids in work:
            np.array(ids, dtype=np.uint16).tofile(out)
"""


def run(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def write_corpus(folder: Path, megabytes: int) -> dict[str, Path]:
    texts = [text for text in iter_documents(megabytes) if "<|endoftext|>" not in text]
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for text in texts:
            print(json.dumps({"text": text, "meta": {"length": len(text)}}, ensure_ascii=False), file=file)
    text = "\n<|endoftext|>\n".join(texts)
    (folder / "corpus.txt").write_bytes(text.encode())
    return {"jsonl": folder / "corpus.jsonl", "text": folder / "corpus.txt"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", default="auto")
    arguments = parser.parse_args()
    tokpack = str(Path(sys.executable).with_name("tokpack"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "peer.py").write_text(PEER)
        for kind, corpus in write_corpus(folder, arguments.megabytes).items():
            megabytes = corpus.stat().st_size / 1e6
            ours = [tokpack, "encode", str(corpus), "-t", "tiktoken:gpt2", "-o", str(folder / kind)]
            ours += ["-j", str(arguments.workers), "--engine", arguments.engine, "--overwrite"]
            raw = folder / f"{kind}.peer"
            peer = [sys.executable, str(folder / "peer.py"), str(corpus), str(raw), str(arguments.workers)]
            run(ours), run(peer)  # warm-up, and the answers to compare
            assert (folder / kind / "train.bin").read_bytes() == raw.read_bytes(), "the token files differ"
            pairs = [(run(ours), run(peer)) for _ in range(arguments.rounds)]
            mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(right / left for left, right in pairs)
            print(
                f"{kind}: {megabytes:.0f} MB, {arguments.workers} workers, engine {arguments.engine}: "
                f"tokpack {megabytes / mine:.1f} MB/s, plain script {megabytes / theirs:.1f} MB/s, "
                f"ratio {ratio:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
