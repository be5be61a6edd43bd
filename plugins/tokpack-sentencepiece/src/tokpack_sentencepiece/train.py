"""Training a SentencePiece model with the settings that language models use."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import sentencepiece

from tokpack.batches import TextBatch
from tokpack.errors import UsageError
from tokpack.protocols import TrainingOptions
from tokpack_sentencepiece.tokenizer import MODEL_NAME, SentencePieceTokenizer

__all__ = ["train_tokenizer"]

#: The trainer drops longer lines without a word; they are cut here instead.
LINE_BYTES = 1 << 14
#: The result depends on the number of threads, so it is the same everywhere; this is the library's default.
THREADS = 16


def train_tokenizer(batches: Iterable[TextBatch], options: TrainingOptions) -> SentencePieceTokenizer:
    """Train a model on the lines of documents, as Llama's is trained.

    Nothing is normalized, all white space is kept, digits stand alone, and bytes stand in for what the
    vocabulary lacks: decoding gives back every text, but for a literal ``▁``. The first special token ends
    documents (EOS), the others are control pieces. Memory follows the training text, which the trainer holds.

    Raises:
        UsageError: an option that SentencePiece does not know, too small a vocabulary, or no text.
    """
    _check(options)
    eos, *others = options.special_tokens or ("</s>",)
    lines = _Lines(batches, options)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type=options.model,
            vocab_size=options.vocab_size,
            hard_vocab_limit=False,  # fewer ids where the text has no more to give, as with --backend bpe
            eos_piece=eos,
            control_symbols=others,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            byte_fallback=True,
            character_coverage=0.99995,
            max_sentence_length=2 * LINE_BYTES,
            num_threads=THREADS,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        if not lines.count:
            raise UsageError(
                "the input holds no text to train on; check the files, or name others"
            ) from error
        reason = str(error).strip().rpartition("] ")[2] or str(error)
        raise UsageError(
            f"sentencepiece cannot train this: {reason}; change --vocab-size or the text"
        ) from error
    return SentencePieceTokenizer(model.getvalue(), MODEL_NAME)


def _check(options: TrainingOptions) -> None:
    refused = {
        "--pattern": options.pattern != TrainingOptions(0).pattern,
        "--ties": options.tie_rule != TrainingOptions(0).tie_rule,
        "--min-frequency": options.min_frequency != TrainingOptions(0).min_frequency,
        "--max-token-length": options.max_token_length is not None,
    }
    for flag, given in refused.items():
        if given:
            raise UsageError(f"sentencepiece has no {flag}; leave it out, or train with --backend bpe")
    if options.model not in ("bpe", "unigram"):
        raise UsageError(f"sentencepiece trains no {options.model!r}; choose --model bpe or unigram")


class _Lines:
    """The lines of all documents, cut where they are too long; counts them."""

    def __init__(self, batches: Iterable[TextBatch], options: TrainingOptions) -> None:
        self._batches = batches
        self._progress = options.progress
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        done = 0
        for batch in self._batches:
            for document in batch:
                for line in filter(None, document.encode().split(b"\n")):
                    for part in _parts(line):
                        self.count += 1
                        yield part
            done += batch.nbytes
            if self._progress is not None:
                self._progress("reading", done, 0)
        if self._progress is not None:
            self._progress("learning", 0, 0)


def _parts(line: bytes) -> Iterator[bytes]:
    """Cut a line into parts of at most LINE_BYTES, at a space if there is one, never inside a character."""
    while len(line) > LINE_BYTES:
        stop = line.rfind(b" ", 1, LINE_BYTES)
        if stop < 0:
            stop = LINE_BYTES
            while line[stop] & 0xC0 == 0x80:
                stop -= 1
        yield line[:stop]
        line = line[stop:]
    yield line
