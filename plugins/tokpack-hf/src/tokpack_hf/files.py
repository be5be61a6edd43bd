"""Where a tokenizer's files are: one file, a folder, or the hub. Reads data; never runs code from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tokpack.errors import DamagedError, StorageError, UsageError

__all__ = ["TokenizerFiles", "find_files"]

MAX_TOKENIZER_BYTES = 1 << 27
MAX_CONFIG_BYTES = 1 << 23

DEFINITION = "tokenizer.json"
CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
CHAT_TEMPLATE = "chat_template.jinja"
OPTIONAL = (CONFIG, SPECIAL_TOKENS, CHAT_TEMPLATE)

_HUB_NAME = re.compile(r"(?:[\w.-]+/)?[\w.-]+(?:@[\w./-]+)?")


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """The files of one tokenizer as they were read: all that is needed to open it again anywhere."""

    origin: str  # for messages: the path or hub name that was opened
    contents: Mapping[str, bytes] = field(repr=False)

    @property
    def definition(self) -> bytes:
        """The ``tokenizer.json``."""
        return self.contents[DEFINITION]

    def settings(self) -> dict[str, Any]:
        """Return ``tokenizer_config.json``, completed from ``special_tokens_map.json``."""
        return {**self._object(SPECIAL_TOKENS), **self._object(CONFIG)}

    def chat_template(self) -> str | None:
        """Return the default chat template: ``chat_template.jinja``, else the config's own."""
        if (text := self.contents.get(CHAT_TEMPLATE)) is not None:
            try:
                return text.decode()
            except UnicodeDecodeError as error:
                raise DamagedError(
                    f"{CHAT_TEMPLATE} of {self.origin} is not UTF-8 ({error}); fetch it again"
                ) from None
        template = self.settings().get("chat_template")
        if isinstance(template, list):  # several, each {"name": ..., "template": ...}
            named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
            template = named.get("default")
        return template if isinstance(template, str) else None

    def without_added_tokens(self) -> TokenizerFiles:
        """Return the files without the tokens that the settings add to those of the ``tokenizer.json``."""
        if CONFIG not in self.contents:
            return self
        settings = self._object(CONFIG)
        settings.pop("added_tokens_decoder", None)
        return TokenizerFiles(self.origin, {**self.contents, CONFIG: msgspec.json.encode(settings)})

    def save(self, directory: Path) -> None:
        """Write the files into ``directory``, byte for byte as they were read."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in self.contents.items():
            (directory / name).write_bytes(content)

    def _object(self, name: str) -> dict[str, Any]:
        return decode_object(self.contents.get(name, b"{}"), f"{name} of {self.origin}")


def decode_object(content: bytes, what: str) -> dict[str, Any]:
    """Decode a JSON object. Raises DamagedError where ``content`` is something else."""
    try:
        value = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise DamagedError(f"{what} is not valid JSON ({error}); fetch or write it again") from None
    if not isinstance(value, dict):
        raise DamagedError(f"{what} holds a {type(value).__name__}, not a JSON object; fetch it again")
    return value


def find_files(model: str) -> TokenizerFiles:
    """Read the files of ``model``: a ``tokenizer.json``, a folder that holds one, or a name on the hub.

    A folder and a hub name are read as transformers does, with the tokens that ``tokenizer_config.json``
    adds. A file gives the ids of that file, as the tokenizers library does; from the files beside it come
    only the names of BOS, EOS and PAD and the chat template.

    Raises:
        UsageError: nothing of that name exists.
        StorageError: a file cannot be read, or the hub cannot be reached.
        DamagedError: a file is larger than any tokenizer.
    """
    path = Path(model).expanduser()
    if model and path.is_dir():
        paths = {name: path / name for name in (DEFINITION, *OPTIONAL)}
    elif path.is_file():
        paths = {DEFINITION: path} | {name: path.parent / name for name in OPTIONAL}
    elif looks_local(model) or not _HUB_NAME.fullmatch(model):
        raise UsageError(
            f"there is no {model!r}; name a tokenizer.json, a folder that holds one, or a model of the hub "
            "such as hf:openai-community/gpt2"
        )
    else:
        # The hub's client takes a while to import: only who asks for the hub waits for it.
        from tokpack_hf.hub import hub_files

        paths = hub_files(model, DEFINITION, OPTIONAL)
    contents = {name: _content(path, name) for name, path in paths.items() if path.is_file()}
    if DEFINITION not in contents:
        raise UsageError(
            f"{model!r} holds no {DEFINITION}; for a SentencePiece model write sentencepiece:FILE.model, "
            "or save the tokenizer with transformers' save_pretrained"
        )
    files = TokenizerFiles(model, contents)
    return files.without_added_tokens() if path.is_file() else files


def looks_local(model: str) -> bool:
    """Say whether ``model`` is written as a path: absolute, ``./``, ``~``, a suffix, or two slashes."""
    return (
        not model
        or model.startswith((".", "/", "~"))
        or "\\" in model
        or model.endswith((".json", "/"))
        or model.split("@")[0].count("/") > 1
    )


def _content(path: Path, name: str) -> bytes:
    limit = MAX_TOKENIZER_BYTES if name == DEFINITION else MAX_CONFIG_BYTES
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; check the file") from error
    if len(content) > limit:
        raise DamagedError(f"{path} is larger than {limit:,} bytes and no tokenizer; check the file")
    return content
