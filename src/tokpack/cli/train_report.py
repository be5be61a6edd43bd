"""What `tokpack train-tokenizer` says of its result."""

from __future__ import annotations

from typing import Any

import typer

from tokpack.cli.console import format_bytes, format_count, format_seconds, print_table, table
from tokpack.tokenizers.quality import longest_tokens
from tokpack.tokenizers.training import TrainedTokenizer

__all__ = ["show", "summary"]

_LONGEST = 10  # tokens shown
_SHOWN = 48  # characters of each


def show(trained: TrainedTokenizer, seconds: float) -> None:
    """Print what was learnt, for people."""
    quality, vocab_size = trained.quality, trained.tokenizer.vocab_size
    rows = [
        (str(token_id), str(len(token)), _shortened(_printable(token)))
        for token_id, token in _longest(trained)
    ]
    print_table(table("longest tokens", ("id", "bytes", "token"), rows, right=(0, 1)))
    typer.echo(
        f"trained on {format_count(trained.documents)} documents, {format_bytes(trained.text_bytes)}, "
        f"in {format_seconds(seconds)}"
    )
    for reason, number in trained.problems.items():
        typer.echo(f"{format_count(number)} documents skipped or repaired ({reason})")
    if vocab_size < trained.options.vocab_size:
        typer.echo(
            f"only {format_count(vocab_size)} of {format_count(trained.options.vocab_size)} ids: no pair is "
            "left that may be merged; give more text, or ask for fewer"
        )
    where = "held-out text" if trained.held_out else "the training text (give --validation for held-out text)"
    typer.echo(
        f"{format_count(vocab_size)} ids; {quality.bytes_per_token:.3f} bytes per token and "
        f"{quality.coverage:.1%} of the ids used on {format_bytes(quality.text_bytes)} of {where}"
    )
    typer.echo(f"{trained.path} is complete; next: tokpack encode INPUT --tokenizer {trained.reference}")


def summary(trained: TrainedTokenizer, seconds: float) -> dict[str, Any]:
    """Return the same for programs, JSON-ready."""
    quality = trained.quality
    return {
        "path": str(trained.path),
        "reference": trained.reference,
        "vocab_size": trained.tokenizer.vocab_size,
        "asked_vocab_size": trained.options.vocab_size,
        "content_digest": trained.tokenizer.content_digest,
        "documents": trained.documents,
        "text_bytes": trained.text_bytes,
        "problems": dict(trained.problems),
        "seconds": round(seconds, 3),
        "quality": {
            "held_out": trained.held_out,
            "text_bytes": quality.text_bytes,
            "tokens": quality.tokens,
            "bytes_per_token": quality.bytes_per_token,
            "ids_used": quality.ids_used,
            "coverage": quality.coverage,
        },
        "longest_tokens": [
            {"id": token_id, "bytes": len(token), "token": _printable(token)}
            for token_id, token in _longest(trained)
        ],
    }


def _longest(trained: TrainedTokenizer) -> list[tuple[int, bytes]]:
    return longest_tokens(trained.tokenizer, _LONGEST)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _printable(token: bytes) -> str:
    """Show a token with its spaces and whatever does not print."""
    return repr(token.decode(errors="backslashreplace"))
