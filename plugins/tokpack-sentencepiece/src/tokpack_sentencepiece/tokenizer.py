"""``sentencepiece:``: the SentencePiece library behind tokpack's contract."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from tokpack.batches import TextBatch, TokenBatch, offsets_from_lengths
from tokpack.dtypes import TokenArray, token_dtype
from tokpack.errors import DamagedError, StorageError, UsageError
from tokpack.protocols import Special, TokenizerOptions
from tokpack.tokenizers.specials import find_spelled, refuse_spelled, spelling_pattern
from tokpack_sentencepiece.model import WITHOUT_DUMMY_PREFIX, read_model
from tokpack_sentencepiece.pieces import PieceBytes

__all__ = ["SentencePieceTokenizer", "find_model", "open_tokenizer"]

MODEL_NAME = "tokenizer.model"
_KNOWN_NAMES = (MODEL_NAME, "spiece.model", "sentencepiece.bpe.model")
_MAX_BYTES = 1 << 27
#: Text for one call of the library.
_CALL_BYTES = 1 << 20

#: A part of a document: its bytes, where it begins, and whether it is a control piece.
_Cut: TypeAlias = tuple[bytes, int, bool]
#: A token: its id, and the bytes from and to which it stands.
_Placed: TypeAlias = tuple[int, int, int]


def open_tokenizer(model: str, options: TokenizerOptions) -> SentencePieceTokenizer:
    """Open ``sentencepiece:MODEL``: a ``.model`` file, or a folder that holds one.

    Raises:
        UsageError: there is none, or the native engine is asked for.
        StorageError: it cannot be read.
        DamagedError: it is no SentencePiece model.
    """
    if options.engine == "native":
        raise UsageError("no native engine serves sentencepiece models; use --engine auto or reference")
    path = find_model(model)
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; check the file") from error
    if len(content) > _MAX_BYTES:
        raise DamagedError(f"{path} is larger than {_MAX_BYTES:,} bytes and no tokenizer; check the file")
    return SentencePieceTokenizer(content, str(path))


def find_model(model: str) -> Path:
    """Return the path of a model file named by itself or by its folder.

    Raises:
        UsageError: nothing is there, or a folder holds several.
    """
    path = Path(model).expanduser()
    if not model or not path.exists():
        raise UsageError(f"there is no {model!r}; name a SentencePiece file: sentencepiece:./m.model")
    if path.is_file():
        return path
    known = [path / name for name in _KNOWN_NAMES if (path / name).is_file()]
    found = known[:1] or sorted(path.glob("*.model"))
    if len(found) != 1:
        listed = ", ".join(item.name for item in found) or "no .model file"
        raise UsageError(f"the folder {model!r} holds {listed}; name one file: sentencepiece:{model}/m.model")
    return found[0]


class SentencePieceTokenizer:
    """A SentencePiece model, BPE or Unigram, with or without byte fallback."""

    def __init__(self, content: bytes, origin: str) -> None:
        self._content = content
        self._origin = origin
        self._facts = read_model(content, origin)
        self._library = self._open(content)
        library = self._library
        ids = list(range(library.vocab_size()))
        try:
            self._pieces: list[str] = library.id_to_piece(ids)
        except UnicodeDecodeError as error:
            raise DamagedError(f"{origin} has a piece that is not UTF-8 ({error}); fetch it again") from None
        control = itertools.compress(ids, library.is_control(ids))
        special = {self._pieces[token_id]: token_id for token_id in control}
        self._special = MappingProxyType(special)
        self._spelled = spelling_pattern(special)
        self._dtype = token_dtype(library.vocab_size())

    def __reduce__(self) -> tuple[Any, ...]:
        return (SentencePieceTokenizer, (self._content, self._origin))

    @property
    def vocab_size(self) -> int:
        """Number of pieces, which is the largest id + 1."""
        return int(self._library.vocab_size())

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The control pieces, such as ``<s>``; pieces that a user defined are ordinary tokens."""
        return self._special

    @property
    def bos_id(self) -> int | None:
        """As the model says."""
        return _id(self._library.bos_id())

    @property
    def eos_id(self) -> int | None:
        """As the model says."""
        return _id(self._library.eos_id())

    @property
    def pad_id(self) -> int | None:
        """As the model says."""
        return _id(self._library.pad_id())

    @property
    def engine(self) -> str:
        """The library and its version."""
        return f"sentencepiece {sentencepiece.__version__}"

    @property
    def content_digest(self) -> str:
        """SHA-256 (hex) of pieces, normalizers, and the settings that decide ids or bytes."""
        return self._facts.digest

    def encode_batch(self, texts: TextBatch, *, special: Special = "text") -> TokenBatch:
        """Encode each document on its own, adding nothing; tokens have the storage dtype.

        With ``parse``, text is cut at control pieces, and what follows one begins without the space that the
        model puts before a document.

        Raises:
            SpecialTokenError: ``special="error"`` and a document spells a control piece.
        """
        if special == "error":
            refuse_spelled(texts, self._spelled)
        documents: list[NDArray[np.int32]] = []
        for call in _calls(texts):
            documents.extend(self._library.encode(call, return_type="numpy", num_threads=1))
        for index, cuts in self._cuts(texts, special).items():
            documents[index] = np.array([token_id for token_id, *_ in self._around(cuts)], dtype=np.int32)
        offsets = offsets_from_lengths(map(len, documents), len(documents))
        tokens = np.concatenate([np.empty(0, dtype=np.int32), *documents])
        return TokenBatch(tokens.astype(self._dtype), offsets)

    def encode_spans(self, texts: TextBatch, *, special: Special = "text") -> TokenBatch:
        """Encode like `encode_batch`, with the bytes of its document that each token stands for.

        The columns ``start`` and ``stop`` are int64, in bytes from the document's beginning. Of a character
        that takes several byte pieces, each spans all of it.
        """
        if special == "error":
            refuse_spelled(texts, self._spelled)
        cuts = self._cuts(texts, special)
        documents = [
            np.array(
                list(self._around(cuts[index]) if index in cuts else self._spans(self._library, text, 0)),
                dtype=np.int64,
            ).reshape(-1, 3)
            for index, text in enumerate(map(str.encode, texts))
        ]
        offsets = offsets_from_lengths(map(len, documents), len(documents))
        table = np.concatenate([np.empty((0, 3), dtype=np.int64), *documents])
        columns = {"start": table[:, 1], "stop": table[:, 2]}
        return TokenBatch(table[:, 0].astype(self._dtype), offsets, columns)

    def decode_bytes(self, tokens: TokenArray | Sequence[int]) -> bytes:
        """Return the bytes that ``tokens`` stand for: byte pieces exactly, control pieces as written.

        Raises:
            DamagedError: an id is not in the vocabulary.
        """
        ids = [int(token_id) for token_id in tokens]
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            wrong = next(token_id for token_id in ids if not 0 <= token_id < self.vocab_size)
            raise DamagedError(
                f"token id {wrong:,} is not in the vocabulary of {self._origin}; was the data written with "
                "another tokenizer?"
            )
        return self._bytes.join(ids)

    def save(self, directory: Path) -> None:
        """Write the model, as it was read, as ``tokenizer.model``."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / MODEL_NAME).write_bytes(self._content)

    @cached_property
    def _bytes(self) -> PieceBytes:
        return PieceBytes.of(self._library, self._pieces, self._facts)

    @cached_property
    def _continuing(self) -> sentencepiece.SentencePieceProcessor:
        """The model for text that continues after a control piece: without a space put before it.

        A model that removes white space would join words there; such a one begins anew.
        """
        if self._facts.remove_extra_whitespaces:
            return self._library
        return self._open(self._content + WITHOUT_DUMMY_PREFIX)

    def _open(self, content: bytes) -> sentencepiece.SentencePieceProcessor:
        try:
            return sentencepiece.SentencePieceProcessor(model_proto=content)
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().rpartition("] ")[2] or "it cannot be parsed"
            raise DamagedError(
                f"{self._origin} is not a model that {self.engine} can open ({reason}); fetch it again"
            ) from None

    def _cuts(self, texts: TextBatch, special: Special) -> dict[int, list[_Cut]]:
        """Return the parts of every document that spells a control piece, where that is to be parsed."""
        spelled: dict[int, list[tuple[int, int]]] = {}
        for document, start, stop in find_spelled(texts, self._spelled if special == "parse" else None):
            first = int(texts.offsets[document])
            spelled.setdefault(document, []).append((start - first, stop - first))
        return {document: list(_cut(texts[document].encode(), found)) for document, found in spelled.items()}

    def _around(self, cuts: list[_Cut]) -> Iterator[_Placed]:
        """Yield the tokens of a document that is cut at control pieces."""
        for number, (text, start, is_special) in enumerate(cuts):
            if is_special:
                yield self._special[text.decode()], start, start + len(text)
            else:
                yield from self._spans(self._continuing if number else self._library, text, start)

    def _spans(
        self, library: sentencepiece.SentencePieceProcessor, text: bytes, first: int
    ) -> Iterator[_Placed]:
        found = library.encode(text, return_type="offset_mapping")
        ids, spans = found["ids"], found["offsets"]
        stop = len(text)
        # All byte pieces of a character but the last have no width: give them the character's.
        stops = []
        for token_id, span in zip(reversed(ids), reversed(spans), strict=True):
            stop = span[1] if span[0] < span[1] or not library.is_byte(token_id) else stop
            stops.append(stop)
        for token_id, span, stop in zip(ids, spans, reversed(stops), strict=True):
            yield token_id, first + span[0], first + stop


def _id(token_id: int) -> int | None:
    return token_id if token_id >= 0 else None


def _cut(text: bytes, spelled: list[tuple[int, int]]) -> Iterator[_Cut]:
    place = 0
    for start, stop in spelled:
        if place < start:
            yield text[place:start], place, False
        yield text[start:stop], start, True
        place = stop
    if place < len(text):
        yield text[place:], place, False


def _calls(texts: TextBatch) -> Iterator[list[bytes]]:
    """Yield documents, some of about _CALL_BYTES together at a time."""
    data, edges = texts.data.data, texts.offsets.tolist()
    first = 0
    while first < len(texts):
        last = max(first + 1, bisect.bisect_right(edges, edges[first] + _CALL_BYTES) - 1)
        yield [bytes(data[a:b]) for a, b in itertools.pairwise(edges[first : last + 1])]
        first = last
