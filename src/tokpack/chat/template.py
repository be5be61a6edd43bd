"""Chat templates: Jinja, in a sandbox, with the meaning that transformers gives them.

A template is code that a stranger wrote. This module runs it without attributes, callables or changes that it
has no business with; `tokpack.chat.worker` puts limits of time and memory around it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

__all__ = ["ChatTemplate", "RefusedError", "Rendered"]

#: Characters that no text has: Unicode sets them aside for a program's own use. A pair marks a trained part.
_MARKS = [(chr(code), chr(code + 1)) for code in range(0xFDD0, 0xFDF0, 2)]
_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_READS_PARTS = re.compile(r"content\s+is\s+(not\s+)?string|\bfor\s+\w+\s+in\s[^%]*\bcontent\b")
_REASONING = ("reasoning_content", "thinking", "reasoning")


class RefusedError(Exception):
    """A conversation that cannot be rendered; the message says why."""


class Rendered(NamedTuple):
    """The text of a conversation, and the parts of it that are trained, in characters, in order."""

    text: str
    spans: list[tuple[int, int]]


class ChatTemplate:
    """A template, ready to render.

    ``tokens`` are names that it may print, such as ``bos_token``. What it marks by ``{% generation %}`` is
    trained; without such marks, what each assistant turn adds to the conversation before it.

    Raises:
        RefusedError: the template is no valid Jinja.
    """

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        self._source = source
        self._tokens = dict(tokens)
        self._reads_parts = _READS_PARTS.search(source) is not None
        self._marks_parts = _GENERATION.search(source) is not None
        self._environment = _environment()
        try:
            self._template = self._environment.from_string(source)
        except (jinja2.TemplateError, RecursionError, SyntaxError) as error:
            line = getattr(error, "lineno", "?")
            raise RefusedError(f"the chat template is no valid Jinja at line {line}: {error}") from None

    def render(self, messages: Any, **fields: Any) -> Rendered:
        """Render one conversation; ``fields`` are ``tools`` and ``documents``.

        Raises:
            RefusedError: ``messages`` is no conversation, or the template failed or did what it must not.
        """
        turns = [self._turn(message) for message in _checked(messages)]
        if self._marks_parts:
            return self._render_marked(turns, fields)
        return self._render_by_prefix(turns, fields)

    def _turn(self, message: dict[str, Any]) -> dict[str, Any]:
        reasoning = next((message[name] for name in _REASONING if message.get(name) is not None), None)
        if reasoning is not None:
            message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
        content = message.get("content")
        if isinstance(content, list) and not self._reads_parts:
            message = {**message, "content": "".join(map(_part_text, content))}
        return message

    def _render_marked(self, turns: list[dict[str, Any]], fields: Mapping[str, Any]) -> Rendered:
        held = json.dumps([turns, fields], ensure_ascii=False) + self._source
        marks = next((pair for pair in _MARKS if pair[0] not in held and pair[1] not in held), None)
        if marks is None:
            raise RefusedError("it holds every one of the characters that could mark what is trained")
        self._environment.tokpack_marks = marks
        return _unmark(self._run(turns, fields), marks)

    def _render_by_prefix(self, turns: list[dict[str, Any]], fields: Mapping[str, Any]) -> Rendered:
        whole = self._run(turns, fields)
        spans: list[tuple[int, int]] = []
        for index, turn in enumerate(turns):
            if turn.get("role") != "assistant":
                continue
            before = self._run(turns[:index], fields) if index else ""
            opened = self._run(turns[:index], fields, add_generation_prompt=True) if index else ""
            after = whole if index == len(turns) - 1 else self._run(turns[: index + 1], fields)
            if not (whole.startswith(before) and whole.startswith(after)):
                raise RefusedError(
                    f"the template writes message {index + 1} differently when more messages follow, so what "
                    "is trained cannot be told; mark it with {% generation %} in a --chat-template FILE"
                )
            # The prompt for an answer belongs to what is given, as far as the conversation has it.
            start = max(len(before), _common_prefix(opened, after))
            if start < len(after):
                spans.append((start, len(after)))
        return Rendered(whole, spans)

    def _run(
        self,
        turns: Sequence[dict[str, Any]],
        fields: Mapping[str, Any],
        *,
        add_generation_prompt: bool = False,
    ) -> str:
        try:
            return self._template.render(
                **self._tokens,
                messages=list(turns),
                tools=fields.get("tools"),
                documents=fields.get("documents"),
                add_generation_prompt=add_generation_prompt,
            )
        except SecurityError as error:
            raise RefusedError(f"the chat template does what it must not: {error}") from None
        except RecursionError:
            raise RefusedError("the chat template calls itself without end") from None
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise RefusedError(f"the chat template failed: {error or type(error).__name__}") from None


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox of Jinja, which refuses at once instead of when a refused value is used."""

    #: What begins and ends a part that is trained, in the rendering under way.
    tokpack_marks = ("", "")

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        raise SecurityError(f"it reads {attribute!r} of a {type(obj).__name__}")


class _Generation(Extension):
    """``{% generation %}``: what stands inside was written by the assistant."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        begin, end = self.environment.tokpack_marks  # type: ignore[attr-defined]
        return f"{begin}{caller()}{end}"


class _TemplateNamespace(Namespace):
    """``namespace()`` without names that lead into Python."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError(f"it sets {name!r} of a namespace")
        super().__setitem__(name, value)


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], finalize=_only_text
    )
    environment.filters["tojson"] = _to_json
    # Nothing by chance and no clock: the same conversation must always have the same text.
    del environment.filters["random"], environment.globals["lipsum"]
    environment.globals["dict"] = _plain_dict
    environment.globals["namespace"] = _TemplateNamespace
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _only_text(value: Any) -> Any:
    # "None" or "[{'type': …" in training data is what nobody wants and nobody sees.
    if value is None or isinstance(value, (dict, list, tuple)):
        raise ValueError(
            f"it prints {str(value)[:40]} where text belongs; is the content of a message missing?"
        )
    return value


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own escapes what would matter in HTML; templates count on plain JSON.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _plain_dict(*pairs: Any, **items: Any) -> dict[Any, Any]:
    return dict(*pairs, **items)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _checked(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise RefusedError("its messages are not a list with one message or more")
    for index, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise RefusedError(f"message {index} is not an object with a role")
    return messages


def _part_text(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text":
        text = part.get("text", part.get("value"))
        if isinstance(text, str):
            return text
    raise RefusedError("a message has parts that are not text, which the chat template does not read")


def _common_prefix(first: str, second: str) -> int:
    pairs: Iterator[tuple[int, tuple[str, str]]] = enumerate(zip(first, second, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))


def _unmark(text: str, marks: tuple[str, str]) -> Rendered:
    """Take the marks out of ``text``; spans are what stood between them."""
    plain: list[str] = []
    spans: list[tuple[int, int]] = []
    length = 0
    # Text and marks by turns: text, begin, trained text, end, text, …
    for number, part in enumerate(re.split("([" + "".join(marks) + "])", text)):
        if number % 2:
            if part != marks[number % 4 // 2]:
                raise RefusedError(
                    "its {% generation %} blocks lie in one another, or the template cuts them"
                )
            continue
        if number % 4 == 2 and part:
            spans.append((length, length + len(part)))
        plain.append(part)
        length += len(part)
    return Rendered("".join(plain), spans)
