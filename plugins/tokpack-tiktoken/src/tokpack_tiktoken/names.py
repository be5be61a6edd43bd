"""Encodings by the names that tiktoken knows, and by the models that use them."""

from __future__ import annotations

import difflib
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import tiktoken
import tiktoken.model
import tiktoken.registry

from tokpack.cache import cache_key, cached_folder, discard
from tokpack.errors import DamagedError, StorageError, TokpackError, UsageError
from tokpack_tiktoken.definition import Definition
from tokpack_tiktoken.files import load_definition, save_definition

__all__ = ["definition_by_name", "encoding_name"]

_OPENAI = "tiktoken_ext.openai_public"


def encoding_name(model: str) -> str | None:
    """Return the name of the encoding that ``model`` is or uses, or None."""
    if model in tiktoken.list_encoding_names():
        return model
    try:
        return tiktoken.encoding_name_for_model(model)
    except KeyError:
        return None


def definition_by_name(model: str) -> Definition:
    """Have tiktoken read, or fetch, an encoding; what it made of its files is kept for the next time.

    Raises:
        UsageError: tiktoken knows no such encoding or model.
        StorageError: it is in no cache, and the network cannot be reached.
        DamagedError: what was fetched is not what tiktoken expects.
    """
    name = encoding_name(model)
    if name is None:
        known = [*tiktoken.list_encoding_names(), *tiktoken.model.MODEL_TO_ENCODING]
        close = difflib.get_close_matches(model, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known[:7])} and model names"
        raise UsageError(f"tiktoken knows no encoding or model {model!r}, and there is no such file; {hint}")
    key = _key(name)
    if key is not None and (kept := _kept(name, key)) is not None:
        return kept
    definition = _ask_tiktoken(name)
    if key is not None:
        cached_folder("tiktoken", key, write=lambda folder: save_definition(definition, folder))
    return definition


def _key(name: str) -> str | None:
    """Return what an encoding of OpenAI's depends on: tiktoken and its module that pins the files by SHA-256.

    None for encodings that other distributions add, since nothing is known of those.
    """
    if tiktoken.registry.ENCODING_CONSTRUCTORS is None:
        tiktoken.list_encoding_names()
    constructor = (tiktoken.registry.ENCODING_CONSTRUCTORS or {}).get(name)
    if constructor is None or constructor.__module__ != _OPENAI:
        return None
    source = Path(constructor.__code__.co_filename)
    try:
        pinned = hashlib.sha256(source.read_bytes()).hexdigest()
    except OSError:
        return None
    return cache_key("tiktoken 1", tiktoken.__version__, pinned, name)


def _kept(name: str, key: str) -> Definition | None:
    if (entry := cached_folder("tiktoken", key)) is None:
        return None
    try:
        return replace(load_definition(entry), origin=f"tiktoken:{name}")
    except TokpackError:  # ranks that are not those of the SHA-256 beside them, say
        discard(entry)
        return None


def _ask_tiktoken(name: str) -> Definition:
    import requests  # a twentieth of a second that only a missing file is worth

    try:
        encoding = tiktoken.get_encoding(name)
    except requests.RequestException as error:
        raise StorageError(_unreachable(name, error)) from error
    except (ValueError, AssertionError) as error:
        raise DamagedError(
            f"the files of tiktoken:{name} are damaged: {error}; {_cache()}, empty it and try again"
        ) from error
    except OSError as error:
        raise StorageError(f"cannot keep the files of tiktoken:{name}: {error}; {_cache()}") from error
    return Definition(
        f"tiktoken:{name}", encoding._pat_str, encoding._mergeable_ranks, encoding._special_tokens
    )


def _unreachable(name: str, error: Exception) -> str:
    return (
        f"tiktoken:{name} is not on this machine, and the network cannot be reached "
        f"({type(error).__name__}); {_cache()}. Where there is a network, open it once and copy that "
        "folder, or save it with `Tokenizer.save` and open tiktoken:./FOLDER"
    )


def _cache() -> str:
    named = os.environ.get("TIKTOKEN_CACHE_DIR")
    if named is None:
        return "TIKTOKEN_CACHE_DIR is not set; it may name a folder that holds tiktoken's files"
    return f"TIKTOKEN_CACHE_DIR is {named}"
