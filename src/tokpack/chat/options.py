"""What a person may ask of chat data, in one frozen record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokpack.chat.render import ChatRenderer, Conversations, Pairs
from tokpack.errors import StorageError, UsageError
from tokpack.protocols import ChatTokenizer, OnError, Special, Tokenizer

__all__ = ["ChatOptions", "open_renderer", "read_template", "resolve_template"]

_MAX_TEMPLATE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """Which fields hold conversations, or prompts and completions, and the template for conversations."""

    messages_field: str | None = None
    prompt_field: str | None = None
    completion_field: str | None = None
    template: str | None = None  # Jinja source; None: the tokenizer's own

    def __post_init__(self) -> None:
        if (self.prompt_field is None) != (self.completion_field is None):
            raise UsageError("--prompt-field and --completion-field go together; give both")
        if (self.messages_field is None) == (self.prompt_field is None):
            raise UsageError(
                "chat data is either conversations (--messages-field) or pairs (--prompt-field and "
                "--completion-field); give one of them"
            )
        if self.template is not None and self.messages_field is None:
            raise UsageError("--chat-template is for conversations; name their field by --messages-field")


def read_template(path: Path) -> str:
    """Read a chat template from a file.

    Raises:
        StorageError: the file cannot be read.
        UsageError: it is not text, or far larger than any template.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_TEMPLATE_BYTES + 1)
        if len(content) > _MAX_TEMPLATE_BYTES:
            raise UsageError(f"{path} is larger than {_MAX_TEMPLATE_BYTES:,} bytes; name a chat template")
        return content.decode()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; check --chat-template") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text ({error}); name a chat template") from error


def resolve_template(options: ChatOptions, tokenizer: Tokenizer, reference: str) -> str | None:
    """Return the template for conversations: the one asked for, else the tokenizer's own; None for pairs.

    Raises:
        UsageError: there is neither.
    """
    if options.messages_field is None or options.template is not None:
        return options.template
    template = tokenizer.chat_template if isinstance(tokenizer, ChatTokenizer) else None
    if template is None:
        raise UsageError(f"{reference} has no chat template; give one: --chat-template FILE")
    return template


def open_renderer(
    options: ChatOptions, tokenizer: Tokenizer, *, special: Special, on_error: OnError
) -> ChatRenderer:
    """Return what turns the records of a source into text. ``options.template`` is resolved already.

    A special token that a message spells is a problem unless ``special`` is ``parse``: the template's own are
    parsed, and in the rendered text nobody can tell them apart.
    """
    if options.prompt_field is not None and options.completion_field is not None:
        return Pairs(options.prompt_field, options.completion_field, special=special, on_error=on_error)
    return Conversations(
        options.template or "",
        tokenizer.chat_tokens if isinstance(tokenizer, ChatTokenizer) else {},
        messages_field=options.messages_field or "",
        literal=() if special == "parse" else tuple(tokenizer.special_tokens),
        on_error=on_error,
    )
