"""Claims: `tokpack encode` is many times as fast as the preparation script that people write by hand, on the
same cores, and keeps most of its engine's own rate.

The peer does what nanoGPT's and Megatron's preparation scripts do with the same tiktoken: a process pool,
``encode_ordinary`` per document, EOT after each, ``np.array`` and ``tofile``. Both run as whole processes,
interpreter start included, in turn; token files are compared byte for byte before anything is timed. The
engine's own rate is that of one call for all documents at hand in memory, by an engine without any words in
its cache, on as many threads. All documents are different (`machine_text.py`).

    python benchmarks/encode_cli.py [--megabytes 300] [--workers 2] [--rounds 3] [--engine auto|reference]

Needs tiktoken's gpt2 files (a network, or TIKTOKEN_CACHE_DIR). `--json FILE` appends the figures to a file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
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
    os.sync()  # what an earlier run left to be written is not this one's to wait for
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


ENGINE = """
import json, sys, time
from pathlib import Path
import tiktoken
from tokpack.batches import TextBatch
from tokpack.protocols import TiktokenModel
from tokpack_bpe.opening import accelerate

encoding = tiktoken.get_encoding("gpt2")
model = TiktokenModel(encoding._pat_str, encoding._mergeable_ranks, encoding._special_tokens)
source, workers = Path(sys.argv[1]), int(sys.argv[2])
if source.suffix == ".jsonl":
    documents = [json.loads(line)["text"].encode() for line in source.open(encoding="utf-8", newline="")]
else:
    documents = source.read_bytes().split(b"<|endoftext|>")
texts = TextBatch.from_utf8(documents)
engine = accelerate(model)
begun = time.perf_counter()
engine.encode_batch(texts, threads=workers)
print(time.perf_counter() - begun)
"""


def engine_seconds(folder: Path, corpus: Path, workers: int) -> float:
    command = [sys.executable, str(folder / "engine.py"), str(corpus), str(workers)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def write_corpus(folder: Path, megabytes: int) -> dict[str, Path]:
    texts = [text for text in iter_documents(megabytes) if "<|endoftext|>" not in text]
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for text in texts:
            print(json.dumps({"text": text, "meta": {"length": len(text)}}, ensure_ascii=False), file=file)
    text = "\n<|endoftext|>\n".join(texts)
    (folder / "corpus.txt").write_bytes(text.encode())
    return {"jsonl": folder / "corpus.jsonl", "text": folder / "corpus.txt"}


def compare(kind: str, corpus: Path, folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Run everything in turn; return the figures of one kind of input."""
    workers, size = arguments.workers, corpus.stat().st_size / 1e6
    ours = [str(Path(sys.executable).with_name("tokpack")), "encode", str(corpus), "-t", "tiktoken:gpt2"]
    ours += ["-o", str(folder / kind), "-j", str(workers), "--engine", arguments.engine, "--overwrite"]
    raw = folder / f"{kind}.peer"
    peer = [sys.executable, str(folder / "peer.py"), str(corpus), str(raw), str(workers)]
    run(ours), run(peer)  # warm-up, and the answers to compare
    assert (folder / kind / "train.bin").read_bytes() == raw.read_bytes(), "the token files differ"
    native = arguments.engine != "reference" and find_spec("tokpack_bpe") is not None
    rounds = [
        (run(ours), run(peer), engine_seconds(folder, corpus, workers) if native else 0.0)
        for _ in range(arguments.rounds)
    ]
    mine, theirs, alone = (statistics.median(column) for column in zip(*rounds, strict=True))
    figures: dict[str, object] = {
        "input": kind,
        "megabytes": round(size),
        "workers": workers,
        "engine": arguments.engine,
        "tokpack_mb_s": round(size / mine, 1),
        "plain_script_mb_s": round(size / theirs, 1),
        "times_plain_script": round(statistics.median(row[1] / row[0] for row in rounds), 2),
    }
    if native:
        figures["engine_mb_s"] = round(size / alone, 1)
        figures["share_of_engine"] = round(statistics.median(row[2] / row[0] for row in rounds), 2)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--kinds", nargs="+", default=["text", "jsonl"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "peer.py").write_text(PEER)
        (folder / "engine.py").write_text(ENGINE)
        corpora = write_corpus(folder, arguments.megabytes)
        for kind in arguments.kinds:
            figures = compare(kind, corpora[kind], folder, arguments)
            print(", ".join(f"{key} {value}" for key, value in figures.items()), flush=True)
            if arguments.json is not None:
                with arguments.json.open("a") as file:
                    print(json.dumps(figures), file=file)


if __name__ == "__main__":
    main()
