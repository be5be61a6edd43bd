"""Training: documents → counts of distinct words, in parallel → merges, on one core."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from tokpack.batches import TextBatch
from tokpack.errors import UsageError
from tokpack.protocols import TrainingOptions
from tokpack_bpe import _native
from tokpack_bpe.patterns import PATTERNS
from tokpack_bpe.tokenizer import BpeTokenizer
from tokpack_bpe.tokenizer_json import TOKENIZER_JSON, define_tokenizer_json
from tokpack_bpe.vocabulary import Vocabulary, mapped
from tokpack_bpe.writers import files_of

__all__ = ["TIE_RULES", "count_words", "train", "train_vocabulary"]

#: Which of several equally frequent pairs is merged first: the greater as two byte strings (CS336), or the
#: one with the smaller ids (the order of Hugging Face's trainer).
TIE_RULES = ("bytes", "hf")

_BYTES = 256
_MAX_VOCAB_SIZE = 1 << 24


def train(batches: Iterable[TextBatch], options: TrainingOptions) -> BpeTokenizer:
    """Train a tokenizer; it is the one that its own saved files open as.

    Raises:
        UsageError: see `train_vocabulary`.
    """
    files = files_of(train_vocabulary(batches, options))
    definition = define_tokenizer_json(files[TOKENIZER_JSON], origin="the trained tokenizer")
    return BpeTokenizer(replace(definition, files=files))


def train_vocabulary(batches: Iterable[TextBatch], options: TrainingOptions) -> Vocabulary:
    """Learn merges from documents, in memory that follows their distinct words.

    The result depends on the documents and options only, not on their order, batches or ``workers``. It has
    fewer merges than ``vocab_size`` asks for where no pair is left that may be merged.

    Raises:
        UsageError: an option is out of range, or the documents hold no text.
    """
    _check(options)
    counter = count_words(batches, options)
    if counter.unique == 0:
        raise UsageError("the input holds no text to train on; check the files, or name others")
    wanted = options.vocab_size - _BYTES - len(options.special_tokens)
    report = options.progress or _silent
    merges = counter.merges(
        wanted,
        options.tie_rule,
        options.min_frequency,
        options.max_token_length,
        lambda done: report("merging", done, wanted),
    )
    vocabulary = Vocabulary(options.pattern, merges, options.special_tokens)
    _check_spelling(vocabulary)
    return vocabulary


def count_words(batches: Iterable[TextBatch], options: TrainingOptions) -> _native.WordCounter:
    """Count the distinct words of documents with ``options.workers`` threads."""
    report = options.progress or _silent
    special_tokens = list(options.special_tokens)
    counters = [_native.WordCounter(options.pattern, special_tokens) for _ in range(max(1, options.workers))]
    done = 0
    for counted in _in_threads(counters, batches):
        done += counted
        report("counting", done, 0)
    for other in counters[1:]:
        counters[0].add(other)
    return counters[0]


def _in_threads(counters: Sequence[_native.WordCounter], batches: Iterable[TextBatch]) -> Iterator[int]:
    """Feed ``counters`` in turn, each one batch at a time; yield the bytes of each batch once counted."""

    def count(counter: _native.WordCounter, batch: TextBatch) -> int:
        counter.count(batch.data, batch.offsets)
        return batch.nbytes

    with ThreadPoolExecutor(len(counters)) as pool:
        running: deque[Future[int]] = deque()
        for counter, batch in zip(itertools.cycle(counters), batches, strict=False):
            # Before a counter's turn comes again, its last batch is done: one thread per counter at a time.
            if len(running) == len(counters):
                yield running.popleft().result()
            running.append(pool.submit(count, counter, batch))
        while running:
            yield running.popleft().result()


def _silent(phase: str, done: int, total: int) -> None:
    """Report nothing."""


def _check(options: TrainingOptions) -> None:
    if options.model != "bpe":
        raise UsageError(
            f"the backend bpe learns byte-level BPE, not {options.model!r}; try --backend sentencepiece"
        )
    if options.pattern not in PATTERNS:
        raise UsageError(f"unknown pattern {options.pattern!r}; choose one of: {', '.join(PATTERNS)}")
    if options.tie_rule not in TIE_RULES:
        raise UsageError(f"unknown tie rule {options.tie_rule!r}; choose one of: {', '.join(TIE_RULES)}")
    extra = len(options.special_tokens)
    if not _BYTES + extra <= options.vocab_size <= _MAX_VOCAB_SIZE:
        raise UsageError(
            f"a vocabulary of {options.vocab_size:,} is not possible: 256 bytes and {extra} special tokens "
            f"need {_BYTES + extra:,}, the most is {_MAX_VOCAB_SIZE:,}; choose a --vocab-size between"
        )
    if options.min_frequency < 0:
        raise UsageError(f"a minimal frequency of {options.min_frequency} means nothing; give 1 or more")
    if options.max_token_length is not None and options.max_token_length < 1:
        raise UsageError(f"tokens of at most {options.max_token_length} bytes do not exist; give 1 or more")
    _check_special_tokens(options.special_tokens)


def _check_special_tokens(names: Sequence[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"special token {name!r} is not valid Unicode: {error.reason}") from error
        if len(name) < 2:
            raise UsageError(f"special token {name!r} is too short; give it two characters or more")
    for one, other in itertools.permutations(names, 2):
        if one == other:
            raise UsageError(f"special token {one!r} is given twice; give it once")
        if one in other or any(one.endswith(other[:n]) for n in range(1, min(len(one), len(other)))):
            raise UsageError(
                f"special tokens {one!r} and {other!r} overlap, and libraries disagree on which one a text "
                "holds; choose others"
            )


def _check_spelling(vocabulary: Vocabulary) -> None:
    """Refuse special tokens that read, in the files, like tokens with other bytes."""
    taken = {mapped(token): token for token in vocabulary.tokens}
    for name in vocabulary.special_names:
        if name in taken:
            raise UsageError(
                f"special token {name!r} is how vocabulary files spell the bytes {taken[name]!r}; "
                "choose another"
            )
