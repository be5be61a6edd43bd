"""Training a byte-level BPE: tokpack against every trainer on the package index.

    python benchmarks/bpe_train.py --megabytes 100 --rounds 3 --json benchmarks/results/bpe_train.json

Every measurement is a process of its own, from a text file to merges, pinned to `--cores` cores; libraries
take turns. Time is CPU seconds of the training alone (reading the file included for all), memory the peak of
the process. tokpack trains by the rule of Hugging Face's trainer, and its merges must equal theirs.

Peers: pip install tokenizers gigatoken rustbpe bpeasy sentencepiece. One that is not installed is left out;
`--peers-python` names an interpreter that has them.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

SEPARATOR = "<|endoftext|>"
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
VOCAB_SIZES = (10_000, 32_000)

#: What a trainer gives back: its tokens made by merging, in order, as far as it tells.
Tokens = Sequence[bytes]
#: Trains on a file, to so many ids, on so many cores.
Train = Callable[[Path, int, int], Tokens]

# Each function below imports its library and returns what is timed.


def documents(path: Path) -> Iterator[str]:
    """Read a file block by block and yield what stands between the separators."""
    rest = ""
    with path.open(encoding="utf-8", newline="") as file:
        while block := file.read(1 << 20):
            *whole, rest = (rest + block).split(SEPARATOR)
            yield from whole
    yield rest


def tokpack() -> Train:
    from tokpack.plugins import discover
    from tokpack.protocols import SourceOptions, TrainingOptions
    from tokpack.sources import text  # noqa: F401 (what the plugin host would import on first use)
    from tokpack.sources.inputs import find_inputs
    from tokpack.tokenizers.corpus import Corpus
    from tokpack_bpe.train import train_vocabulary

    plugins = discover()

    def train(path: Path, vocab_size: int, cores: int) -> Tokens:
        corpus = Corpus(find_inputs([str(path)], sources=plugins.sources), SourceOptions(), plugins=plugins)
        options = TrainingOptions(vocab_size=vocab_size, tie_rule="hf", workers=cores)
        return train_vocabulary(corpus, options).tokens[256:]

    return train


def hugging_face() -> Train:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    def train(path: Path, vocab_size: int, cores: int) -> Tokens:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[SEPARATOR],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(documents(path), trainer)
        spelled = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])[257:]
        byte_of = _bytes_of_characters()
        return [bytes(byte_of[character] for character in token) for token, _ in spelled]

    return train


def gigatoken() -> Train:
    import gigatoken as library

    def train(path: Path, vocab_size: int, cores: int) -> Tokens:
        _, merges = library.train_bpe(path, vocab_size, [SEPARATOR], separator=SEPARATOR.encode())
        return [left + right for left, right in merges]

    return train


def rustbpe() -> Train:
    import rustbpe as library

    def train(path: Path, vocab_size: int, cores: int) -> Tokens:
        tokenizer = library.Tokenizer()
        tokenizer.train_from_iterator(documents(path), vocab_size - 1, pattern=GPT2)
        ranks = tokenizer.get_mergeable_ranks()
        return [bytes(token) for token, _ in sorted(ranks, key=lambda item: item[1])][256:]

    return train


def bpeasy() -> Train:
    import bpeasy as library

    def train(path: Path, vocab_size: int, cores: int) -> Tokens:
        ranks = library.train_bpe(documents(path), GPT2, 1024, vocab_size - 1)
        return sorted(ranks, key=ranks.__getitem__)[256:]

    return train


def sentencepiece() -> Train:
    import sentencepiece as library

    def train(path: Path, vocab_size: int, cores: int) -> Tokens:
        with tempfile.TemporaryDirectory() as folder:
            library.SentencePieceTrainer.train(
                input=str(path),
                model_prefix=f"{folder}/model",
                model_type="bpe",
                vocab_size=vocab_size,
                byte_fallback=True,
                max_sentence_length=1 << 20,
                num_threads=cores,
                minloglevel=2,
            )
        return []  # its rules are others: there is nothing to compare

    return train


TRAINERS: dict[str, Callable[[], Train]] = {
    "tokpack": tokpack,
    "tokenizers": hugging_face,
    "gigatoken": gigatoken,
    "rustbpe": rustbpe,
    "bpeasy": bpeasy,
    "sentencepiece": sentencepiece,
}


def _bytes_of_characters() -> dict[str, int]:
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printing]
    return {chr(byte): byte for byte in printing} | {chr(256 + i): byte for i, byte in enumerate(others)}


def measure_here(name: str, path: Path, vocab_size: int, cores: int) -> dict[str, Any]:
    """Run one trainer in this process."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])
    os.environ["RAYON_NUM_THREADS"] = str(cores)
    train = TRAINERS[name]()
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = train(path, vocab_size, cores)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "merges": len(tokens),
        "tokens_sha256": hashlib.sha256(
            b"".join(len(t).to_bytes(4, "little") + t for t in tokens)
        ).hexdigest(),
    }


def measure(name: str, path: Path, vocab_size: int, cores: int, python: str) -> dict[str, Any] | None:
    """Run one trainer in a process of its own; None when its library is not installed."""
    command = [python, __file__, "--input", str(path), "--cores", str(cores), "--only", name, str(vocab_size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "ModuleNotFoundError" in done.stderr:
        return None
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def versions(python: str) -> dict[str, str]:
    code = (
        "import importlib.metadata as m, json, sys\n"
        "names = {d.metadata['Name'] for d in m.distributions()} & set(sys.argv[1:])\n"
        "print(json.dumps({name: m.version(name) for name in sorted(names)}))"
    )
    done = subprocess.run([python, "-c", code, *TRAINERS], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def run(
    path: Path, *, cores: int, rounds: int, peers_python: str, trainers: Sequence[str]
) -> list[dict[str, Any]]:
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for _, vocab_size, name in itertools.product(range(rounds), VOCAB_SIZES, trainers):
        python = sys.executable if name == "tokpack" else peers_python
        if (result := measure(name, path, vocab_size, cores, python)) is None:
            print(f"{name} is not installed", file=sys.stderr)
            continue
        print(f"{name} {vocab_size}: {result['cpu_s']:.2f} s, {result['peak_mb']:.0f} MB", file=sys.stderr)
        found.setdefault((name, vocab_size), []).append(result)
    rows = []
    for (name, vocab_size), results in found.items():
        ours = statistics.median(result["cpu_s"] for result in found["tokpack", vocab_size])
        cpu = statistics.median(result["cpu_s"] for result in results)
        rows.append(
            {
                "trainer": name,
                "vocab_size": vocab_size,
                "cpu_s": round(cpu, 3),
                "wall_s": round(statistics.median(result["wall_s"] for result in results), 3),
                "peak_mb": round(max(result["peak_mb"] for result in results)),
                "over_tokpack": round(cpu / ours, 2),
                "tokens_sha256": results[0]["tokens_sha256"],
            }
        )
    return rows


def check_equal(rows: list[dict[str, Any]]) -> None:
    for vocab_size in VOCAB_SIZES:
        digests = {row["trainer"]: row["tokens_sha256"] for row in rows if row["vocab_size"] == vocab_size}
        if "tokenizers" in digests and digests["tokpack"] != digests["tokenizers"]:
            raise SystemExit(f"tokpack's {vocab_size} tokens are not Hugging Face's: the times mean nothing")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", type=Path, help="text file; default: text that this machine has")
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trainers", default=",".join(TRAINERS))
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs=2, metavar=("NAME", "VOCAB_SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        name, vocab_size = arguments.only
        print(json.dumps(measure_here(name, arguments.input, int(vocab_size), arguments.cores)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.input or Path(folder, "text.txt")
        if arguments.input is None:
            from machine_text import write_documents

            write_documents(arguments.megabytes, path)
        rows = run(
            path,
            cores=arguments.cores,
            rounds=arguments.rounds,
            peers_python=arguments.peers_python,
            trainers=arguments.trainers.split(","),
        )
        size = path.stat().st_size
    check_equal(rows)
    print(f"\n{size / 1e6:.1f} MB, {arguments.cores} core(s), {arguments.rounds} rounds, medians")
    print(f"{'trainer':15}{'ids':>8}{'CPU s':>9}{'wall s':>9}{'÷ tokpack':>11}{'peak MB':>9}  equal tokens")
    ours = {row["vocab_size"]: row["tokens_sha256"] for row in rows if row["trainer"] == "tokpack"}
    for row in rows:
        equal = "yes" if row["tokens_sha256"] == ours[row["vocab_size"]] else "no"
        print(
            f"{row['trainer']:15}{row['vocab_size']:8}{row['cpu_s']:9.2f}{row['wall_s']:9.2f}"
            f"{row['over_tokpack']:11.2f}{row['peak_mb']:9}  {equal}"
        )
    if arguments.json:
        record = {
            "text_bytes": size,
            "cores": arguments.cores,
            "rounds": arguments.rounds,
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
            "python": platform.python_version(),
            "versions": versions(arguments.peers_python),
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
