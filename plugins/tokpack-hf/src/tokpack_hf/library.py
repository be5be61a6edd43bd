"""The tokenizers library, opened so that it adds, cuts and pads nothing and never takes the process down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import tokenizers

from tokpack.errors import DamagedError, DocumentError, TokpackError
from tokpack_hf.definition import check_definition
from tokpack_hf.files import TokenizerFiles, decode_object

__all__ = ["ENGINE", "Definition", "encode_one", "encode_side_by_side"]

ENGINE = f"tokenizers {tokenizers.__version__}"

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class Definition:
    """A checked ``tokenizer.json`` with the tokens that ``tokenizer_config.json`` adds to it."""

    def __init__(self, files: TokenizerFiles) -> None:
        self.origin = files.origin
        self.settings = files.settings()
        self.content = decode_object(files.definition, files.origin)
        check_definition(self.content, files.origin)
        self._raw = files.definition
        self._extra = _tokens_of_settings(self.settings)

    def open(self, *, parse: bool) -> tokenizers.Tokenizer:
        """Return the library's tokenizer, with special tokens in the text parsed or taken as text.

        Whether they are parsed is a setting of the object, and threads share it: hence one for each.
        """
        library = self.open_with_template()
        library.encode_special_tokens = not parse
        return _bare(library)

    def open_for_text(self) -> tokenizers.Tokenizer | None:
        """Return a library that takes special tokens for text where `open` cannot: None if it can.

        A Unigram model finds its special tokens in any text, since they are pieces like the others; in
        SentencePiece, where such models come from, they are not. Here they get names that no text has.
        """
        special = {
            token["id"]: token["content"]
            for token in self.content.get("added_tokens") or []
            if token.get("special") and token["content"]
        }
        model = self.content["model"]
        if not isinstance(model["vocab"], list) or not special:
            return None
        pieces = [
            [f"\ufdd0{number}\ufdd1", score] if number in special else [piece, score]
            for number, (piece, score) in enumerate(model["vocab"])
        ]
        added = [token for token in self.content["added_tokens"] if token["id"] not in special]
        changed = {
            **self.content,
            "model": {**model, "vocab": pieces},
            "added_tokens": added,
            "post_processor": None,
        }
        return _bare(self._load(msgspec.json.encode(changed)))

    def open_with_template(self) -> tokenizers.Tokenizer:
        """Return the library's tokenizer with its post-processor.

        Raises:
            DamagedError: the library cannot open the definition, or the settings contradict it.
        """
        library = self._load(self._raw)
        for token_id, token in self._extra.items():
            library.add_tokens([token])
            if (given := library.token_to_id(token.content)) != token_id:
                raise DamagedError(
                    f"the settings beside {self.origin} give {token.content!r} the id {token_id}, the "
                    f"tokenizer {given}; fetch both files of one revision"
                )
        return library

    def _load(self, definition: bytes) -> tokenizers.Tokenizer:
        with _panics_as(lambda error: DamagedError(f"{ENGINE} cannot open {self.origin}: {error}; check it")):
            library = tokenizers.Tokenizer.from_buffer(definition)
        library.no_truncation()
        library.no_padding()
        if getattr(library.model, "dropout", None) is not None:
            library.model.dropout = None  # the same text must always give the same ids
        return library

    def to_json(self) -> bytes:
        """Return the ``tokenizer.json``, with the tokens that the settings add to it."""
        return str(self.open_with_template().to_str()).encode() if self._extra else self._raw

    def with_added_tokens(self, library: tokenizers.Tokenizer) -> dict[str, Any]:
        """Return the content with all added tokens, those of the settings too, in one spelling."""
        added = [
            {"id": token_id, "content": token.content} | {flag: getattr(token, flag) for flag in _FLAGS}
            for token_id, token in library.get_added_tokens_decoder().items()
        ]
        return {**self.content, "added_tokens": added}


def _bare(library: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    # Nothing is added to documents, and without a post-processor offsets stay those of the text.
    library.post_processor = None
    return library


def encode_side_by_side(
    library: tokenizers.Tokenizer, documents: list[str], *, first: int
) -> list[tokenizers.Encoding]:
    """Encode documents in the library's own threads. ``first`` is the number of the first, for messages."""
    try:
        with _panics_as(lambda error: DocumentError(str(error))):
            return list(library.encode_batch_fast(documents, add_special_tokens=False))
    except DocumentError:
        # One by one names the document, if it is one that the library gives up on.
        return [encode_one(library, text, document=first + at) for at, text in enumerate(documents)]


def encode_one(library: tokenizers.Tokenizer, text: str, *, document: int) -> tokenizers.Encoding:
    """Encode one document without touching the library's threads.

    Raises:
        DocumentError: the library gave up on it, as on a pattern that backtracks without end.
    """
    with _panics_as(
        lambda error: DocumentError(
            f"{ENGINE} gave up on document {document} of the batch: {error}; leave the document out, or "
            "check the patterns in the tokenizer.json"
        )
    ):
        return library.encode(text, add_special_tokens=False)


@contextmanager
def _panics_as(error: Callable[[BaseException], TokpackError]) -> Iterator[None]:
    """Turn the library's failures into ``error``. Its panics are no Exception, and have no public type."""
    try:
        yield
    except BaseException as problem:
        if isinstance(problem, Exception) or type(problem).__name__ == "PanicException":
            raise error(problem) from None
        raise


def _tokens_of_settings(settings: Mapping[str, Any]) -> dict[int, tokenizers.AddedToken]:
    listed = settings.get("added_tokens_decoder")
    tokens = {}
    for token_id, token in listed.items() if isinstance(listed, dict) else ():
        if isinstance(token, dict) and token_id.isdecimal() and isinstance(token.get("content"), str):
            flags = {flag: bool(token[flag]) for flag in _FLAGS if flag in token}
            tokens[int(token_id)] = tokenizers.AddedToken(token["content"], **flags)
    return dict(sorted(tokens.items()))
