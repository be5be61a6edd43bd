"""From a path, or another backend's description, to a tokenizer."""

from __future__ import annotations

from pathlib import Path

from tokpack.errors import UsageError
from tokpack.protocols import TiktokenModel, TokenizerJson, TokenizerOptions
from tokpack_bpe.definition import Definition
from tokpack_bpe.json_file import read_bytes
from tokpack_bpe.merges_file import MERGES, VOCAB, read_gpt2_files
from tokpack_bpe.ranks_file import RANKS, define_ranks, read_ranks_file
from tokpack_bpe.tokenizer import BpeTokenizer
from tokpack_bpe.tokenizer_json import SETTINGS, TOKENIZER_JSON, define_tokenizer_json

__all__ = ["accelerate", "open_tokenizer", "read_definition"]


def open_tokenizer(model: str, options: TokenizerOptions) -> BpeTokenizer:
    """Open ``bpe:MODEL``: a tokenizer.json, GPT-2's two files, a ranks file, or a folder that holds one.

    Raises:
        UsageError: there is no such file, or ``engine`` is ``reference``.
        UnsupportedError: the engine cannot reproduce the tokenizer exactly; names what it lacks.
        DamagedError, StorageError: a file is not what it must be, or cannot be read.
    """
    if options.engine == "reference":
        raise UsageError("bpe: has no reference engine; open the file with hf: or tiktoken: to use theirs")
    return BpeTokenizer(read_definition(Path(model).expanduser()))


def accelerate(model: TiktokenModel | TokenizerJson) -> BpeTokenizer:
    """Encode for another backend; see `TokenizerSpec.accelerate`.

    Raises:
        UnsupportedError: the engine cannot reproduce the tokenizer exactly; names what it lacks.
        DamagedError: the tokenizer contradicts itself.
    """
    if isinstance(model, TokenizerJson):
        return BpeTokenizer(define_tokenizer_json(model.content, origin=TOKENIZER_JSON))
    definition = define_ranks(
        model.ranks,
        regex=model.pattern,
        special_tokens=model.special_tokens,
        origin="the encoding",
        files={},  # its backend has files of its own
    )
    return BpeTokenizer(definition)


def read_definition(path: Path) -> Definition:
    """Read whichever tokenizer files ``path`` names or holds.

    Raises:
        UsageError: there are none.
        UnsupportedError, DamagedError, StorageError: see `open_tokenizer`.
    """
    if path.is_dir():
        for name in (TOKENIZER_JSON, VOCAB, RANKS):
            if (path / name).is_file():
                return read_definition(path / name)
        raise UsageError(
            f"{str(path)!r} holds no {TOKENIZER_JSON}, no {VOCAB} with {MERGES} and no {RANKS}; "
            "train one with: tokpack train-tokenizer INPUT --output DIR"
        )
    if not path.is_file():
        raise UsageError(f"there is no {str(path)!r}; name a tokenizer.json, a folder, or a .tiktoken file")
    if path.suffix == ".tiktoken":
        return read_ranks_file(path)
    if path.name.endswith((VOCAB, MERGES)):
        prefix = path.name.removesuffix(VOCAB).removesuffix(MERGES)
        pair = path.with_name(prefix + VOCAB), path.with_name(prefix + MERGES)
        if missing := [file for file in pair if not file.is_file()]:
            raise UsageError(f"{path} needs {missing[0].name} beside it; both files are one tokenizer")
        return read_gpt2_files(*pair)
    beside = path.with_name(SETTINGS)
    settings = read_bytes(beside) if beside.is_file() else None
    return define_tokenizer_json(read_bytes(path), origin=str(path), settings=settings)
