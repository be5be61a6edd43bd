"""Byte-level BPE encoding: tokpack-bpe against every exact library on the package index.

    python benchmarks/bpe_encode.py --hf-python VENV/bin/python --json benchmarks/results/bpe_encode.json

One core. Each library gets a fresh object, encodes the first 60 % of the documents (cold) and then the other
40 %, which it has not seen (warm): list of strings in, one flat array out. Libraries take turns, round after
round, and CPU seconds are compared, so that other load on the machine falls on all alike. Ids are compared
with tiktoken's before anything is timed; a library whose ids differ is shown and not ranked.

Peers: pip install tiktoken gigatoken fastokens. `--hf-python` names an interpreter with a pre-release of
tokenizers 1.0, which is driven as a child process and times itself. Texts are what a Linux machine has.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pickle
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

for _variable in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
    os.environ.setdefault(_variable, "1" if _variable != "TOKENIZERS_PARALLELISM" else "false")

import numpy as np  # noqa: E402  (threads are limited before any library starts some)

ENCODINGS = ("gpt2", "cl100k_base", "o200k_base")
PRIMING = 0.6


class Library(Protocol):
    """Encodes documents; `seconds` are the CPU seconds of the last call, `ids` its result."""

    def encode(self, texts: Sequence[str]) -> tuple[float, Any]: ...


@dataclass(frozen=True)
class InProcess:
    call: Callable[[Sequence[str]], Any]

    def encode(self, texts: Sequence[str]) -> tuple[float, Any]:
        start = time.process_time()
        ids = self.call(texts)
        return time.process_time() - start, ids


def tokpack(files: Path, name: str) -> Library:
    from tokpack.protocols import TokenizerOptions
    from tokpack_bpe.opening import open_tokenizer

    tokenizer = open_tokenizer(str(files / name / _file(name)), TokenizerOptions())
    return InProcess(lambda texts: tokenizer.encode_texts(texts).tokens)


def tiktoken(files: Path, name: str) -> Library:
    import tiktoken

    from tokpack_bpe.opening import read_definition
    from tokpack_bpe.patterns import PATTERNS

    definition = read_definition(files / name / _file(name))
    encoding = tiktoken.Encoding(
        name,
        pat_str=PATTERNS[definition.pattern],
        mergeable_ranks=dict(definition.tokens),
        special_tokens=definition.special_tokens,
    )
    return InProcess(lambda texts: [encoding.encode_ordinary(text) for text in texts])


def gigatoken(files: Path, name: str) -> Library:
    import awkward
    import gigatoken

    scheme = {"gpt2": "gpt2", "cl100k_base": "gpt4", "o200k_base": "o200k"}[name]
    tokenizer = gigatoken.Tokenizer.from_tiktoken(files / name / _file(name), pretokenizer=scheme)

    def encode(texts: Sequence[str]) -> Any:
        return np.asarray(awkward.flatten(tokenizer.encode_batch(list(texts), parallel=False), axis=None))

    return InProcess(encode)


def fastokens(files: Path, name: str) -> Library:
    import fastokens

    # Opened in these ways it takes its hand-written splitters, which are five times as fast as a pattern.
    if name == "gpt2":
        tokenizer = fastokens.Tokenizer.from_file(str(files / name / "tokenizer.json"))
    else:
        tokenizer = fastokens.Tokenizer.from_tiktoken(str(files / name / _file(name)), encoding=name)

    def encode(texts: Sequence[str]) -> Any:
        return np.frombuffer(
            tokenizer.encode_batch_flat(list(texts), split_special_tokens=True)[0], np.uint32
        )

    return InProcess(encode)


class InChild:
    """A library that cannot be imported here: it works and times itself in a process of its own."""

    def __init__(self, python: str, files: Path, name: str) -> None:
        command = [python, __file__, "--child", str(files), name]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def encode(self, texts: Sequence[str]) -> tuple[float, Any]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        pickle.dump(list(texts), self._child.stdin)
        self._child.stdin.flush()
        seconds, ids = pickle.load(self._child.stdout)
        return float(seconds), ids

    def __del__(self) -> None:
        self._child.kill()
        self._child.wait()


def serve(files: Path, name: str) -> None:
    """Be the child: tokenizers 1.0 on a tokenizer.json."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(files / name / "tokenizer.json"))
    while True:
        try:
            texts = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        start = time.process_time()
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False, encode_special_tokens=True)
        ids = np.concatenate([encoding.ids_array for encoding in encodings])
        pickle.dump((time.process_time() - start, ids), sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _file(name: str) -> str:
    return f"{name}.tiktoken"


def flat(ids: Any) -> Any:
    return np.asarray(ids if isinstance(ids, np.ndarray) else list(itertools.chain.from_iterable(ids)))


def measure(
    makers: dict[str, Callable[[], Library]], texts: Sequence[str], rounds: int
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Return MB/s of every library, cold and warm, and the libraries whose ids are tiktoken's."""
    cut = split_point(texts, PRIMING)
    parts = {"cold": texts[:cut], "warm": texts[cut:]}
    sizes = {state: sum(len(text.encode()) for text in part) / 1e6 for state, part in parts.items()}
    expected = {state: flat(makers["tiktoken"]().encode(part)[1]) for state, part in parts.items()}
    seconds: dict[str, dict[str, list[float]]] = {name: {"cold": [], "warm": []} for name in makers}
    exact = set(makers)
    for number in range(rounds):
        for name in rotated(list(makers), number):
            if name == "tiktoken" and number >= 2:
                continue  # it has no cache, and takes as long as all others together
            library = makers[name]()
            for state, part in parts.items():
                spent, ids = library.encode(part)
                seconds[name][state].append(spent)
                if number == 0 and not np.array_equal(flat(ids), expected[state]):
                    exact.discard(name)
    speeds = {
        name: {state: sizes[state] / statistics.median(times) for state, times in states.items()}
        for name, states in seconds.items()
    }
    return speeds, [name for name in makers if name in exact]


def split_point(texts: Sequence[str], share: float) -> int:
    sizes = np.cumsum([len(text) for text in texts])
    return int(np.searchsorted(sizes, share * sizes[-1]))


def rotated(names: list[str], by: int) -> list[str]:
    by %= len(names)
    return names[by:] + names[:by]


def compare(files: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for encoding in arguments.encodings:
        makers: dict[str, Callable[[], Library]] = {
            "tokpack": partial(tokpack, files, encoding),
            "gigatoken": partial(gigatoken, files, encoding),
            "fastokens": partial(fastokens, files, encoding),
            "tiktoken": partial(tiktoken, files, encoding),
        }
        if arguments.hf_python and (files / encoding / "tokenizer.json").is_file():
            makers["tokenizers 1.0"] = partial(InChild, arguments.hf_python, files, encoding)
        results[encoding] = {}
        for kind, texts in arguments.corpora.items():
            speeds, exact = measure(makers, texts, arguments.rounds)
            results[encoding][kind] = {"speeds": speeds, "exact": exact}
            print_row(encoding, kind, speeds, exact)
        print_means(encoding, results[encoding])
    return results


def rivals(row: dict[str, Any]) -> list[str]:
    return [name for name in row["exact"] if name not in ("tokpack", "tiktoken")]


def ratios(row: dict[str, Any], state: str) -> tuple[float, float]:
    """tokpack over tiktoken, and over the fastest other exact library."""
    speed = {name: states[state] for name, states in row["speeds"].items()}
    fastest = max((speed[name] for name in rivals(row)), default=float("nan"))
    return speed["tokpack"] / speed["tiktoken"], speed["tokpack"] / fastest


def print_row(encoding: str, kind: str, speeds: dict[str, Any], exact: list[str]) -> None:
    row = {"speeds": speeds, "exact": exact}
    for state in ("warm", "cold"):
        cells = " ".join(
            f"{name} {states[state]:.0f}{'' if name in exact else ' (ids differ)'},"
            for name, states in speeds.items()
        )
        by_tiktoken, by_rival = ratios(row, state)
        print(
            f"{encoding:12} {kind:13} {state}: {cells} {by_tiktoken:.1f}x tiktoken, {by_rival:.2f}x the next"
        )


def print_means(encoding: str, rows: dict[str, Any]) -> None:
    for state in ("warm", "cold"):
        mean = statistics.geometric_mean([ratios(row, state)[1] for row in rows.values()])
        print(f"{encoding:12} {'geometric mean':13} {state}: {mean:.2f}x the next", flush=True)


def other_figures(files: Path, corpora: dict[str, list[str]]) -> dict[str, float]:
    """Unseen words, two threads, decoding, and pre-tokens of a megabyte."""
    from tokpack.protocols import TokenizerOptions
    from tokpack_bpe.opening import open_tokenizer

    figures: dict[str, float] = {}
    openai = tiktoken(files, "gpt2")
    for name in ENCODINGS:
        tokenizer = open_tokenizer(str(files / name / _file(name)), TokenizerOptions())
        figures[f"unseen word, {name}, ns"] = unseen_words(tokenizer, corpora["code"])
    tokenizer = open_tokenizer(str(files / "gpt2" / _file("gpt2")), TokenizerOptions())
    texts = corpora["prose"]
    tokenizer.encode_texts(texts, threads=2)
    walls = {1: float("inf"), 2: float("inf")}
    for _, threads in itertools.product(range(7), walls):
        start = time.perf_counter()
        tokenizer.encode_texts(texts, threads=threads)
        walls[threads] = min(walls[threads], time.perf_counter() - start)
    figures["two threads over one"] = walls[1] / walls[2]
    figures |= decoding(tokenizer, openai, texts[:2000])
    for label, unit in (("one letter", "a"), ("spaces", " "), ("dashes", "-="), ("base64", None)):
        text = unit * 2**20 if unit else _random_letters(2**20)
        times = []
        for _ in range(3):
            start = time.process_time()
            tokenizer.encode_texts([text[: 2**20]])
            times.append(time.process_time() - start)
        figures[f"1 MB of {label}, MB/s"] = len(text) / 1e6 / statistics.median(times)
    for label, value in figures.items():
        print(f"{label}: {value:.2f}")
    return figures


def _random_letters(count: int) -> str:
    draw = np.random.default_rng(0)
    return (
        draw.choice(np.frombuffer(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", np.uint8), count)
        .tobytes()
        .decode()
    )


def unseen_words(tokenizer: Any, texts: Sequence[str]) -> float:
    """Nanoseconds per word that no cache holds: every distinct word of the texts, once."""
    words = sorted(
        {word for text in texts for word in text.split() if word.isalpha() and 4 <= len(word) <= 14}
    )
    documents = [" ".join(words[i : i + 200]) for i in range(0, len(words), 200)]
    from tokpack.batches import TextBatch

    batch = TextBatch.from_texts(documents)
    times = []
    for _ in range(5):
        fresh = pickle.loads(pickle.dumps(tokenizer))
        fresh.encode_texts(["a"])
        start = time.process_time()
        fresh.encode_batch(batch)
        times.append(time.process_time() - start)
    return statistics.median(times) / len(words) * 1e9


def decoding(tokenizer: Any, openai: Any, texts: Sequence[str]) -> dict[str, float]:
    import tiktoken as library

    batch = tokenizer.encode_texts(texts)
    lists = [document.tolist() for document in batch]
    definition = tokenizer.definition
    from tokpack_bpe.patterns import PATTERNS

    encoding = library.Encoding(
        "gpt2", pat_str=PATTERNS["gpt2"], mergeable_ranks=dict(definition.tokens), special_tokens={}
    )
    documents = list(batch)
    size = sum(len(text.encode()) for text in texts) / 1e6
    ways: dict[str, Callable[[], Any]] = {
        "decode, one document a call, MB/s": lambda: [tokenizer.decode_bytes(ids) for ids in documents],
        "decode, all in one call, MB/s": lambda: tokenizer.decode_batch(batch),
        "decode, tiktoken, MB/s": lambda: [encoding.decode_bytes(ids) for ids in lists],
    }
    times: dict[str, list[float]] = {label: [] for label in ways}
    for _, (label, way) in itertools.product(range(5), ways.items()):
        start = time.process_time()
        way()
        times[label].append(time.process_time() - start)
    return {label: size / statistics.median(values) for label, values in times.items()}


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        serve(Path(sys.argv[2]), sys.argv[3])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokenizers", type=Path, default=None, help="folder of ranks files (shared/data)")
    parser.add_argument("--megabytes", type=float, default=20, help="of each kind of text")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--encodings", nargs="+", default=list(ENCODINGS), choices=ENCODINGS)
    parser.add_argument("--kinds", nargs="+", default=["prose", "code", "multilingual"])
    parser.add_argument("--hf-python", default=None, help="an interpreter with tokenizers 1.0")
    parser.add_argument("--skip-others", action="store_true", help="only the comparison")
    parser.add_argument("--json", type=Path, default=None, help="where to write the results")
    arguments = parser.parse_args()
    if arguments.tokenizers is None:
        from tokpack.testing import shared_data

        arguments.tokenizers = shared_data() / "tokenizers"
    sys.path.insert(0, str(Path(__file__).parent))
    from encode_text import documents_of_kind

    arguments.corpora = {kind: documents_of_kind(kind, arguments.megabytes) for kind in arguments.kinds}
    for kind, texts in arguments.corpora.items():
        print(
            f"{kind}: {len(texts):,} documents, {sum(len(t.encode()) for t in texts) / 1e6:.1f} MB",
            flush=True,
        )
    results: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "rounds": arguments.rounds,
    }
    results["encodings"] = compare(arguments.tokenizers, arguments)
    if not arguments.skip_others:
        results["others"] = other_figures(arguments.tokenizers, arguments.corpora)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
