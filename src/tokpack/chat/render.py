"""Records in, text out: conversations by a chat template, prompt/completion pairs by joining."""

from __future__ import annotations

import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import msgspec
import numpy as np

from tokpack.batches import TextBatch
from tokpack.chat.frames import Answer, Setup, read_frame, write_frame
from tokpack.errors import UsageError
from tokpack.protocols import OnError, Problem, SourceBatch, Special
from tokpack.sources.problems import settle

__all__ = ["ChatRenderer", "Conversations", "Pairs"]


#: The worker imports from where this process does, and never from the folder in which data may lie.
_START = "import sys; sys.path[:] = sys.argv[1:]; from tokpack.chat.worker import main; main()"


class ChatRenderer(Protocol):
    """Turns the records that a source gives under ``SourceOptions.record_fields`` into text. Picklable."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields that it reads; a record without the first of them is a problem."""
        ...

    @property
    def special(self) -> Special:
        """What a special token in the rendered text is."""
        ...

    def render(self, batch: SourceBatch, path: str) -> SourceBatch:
        """Render the records of one batch; ``path`` names their file in problems.

        The texts have the column ``trained``: uint8, 1 at every byte that is trained on.

        Raises:
            DocumentError: a record cannot be rendered and ``on_error`` is ``fail``.
            UsageError: the template does what no template may do, whatever the record.
        """
        ...


class Pairs:
    """A prompt and its completion, joined as they are; the completion is trained."""

    def __init__(
        self,
        prompt_field: str,
        completion_field: str,
        *,
        special: Special = "text",
        on_error: OnError = "fail",
    ) -> None:
        self.fields = (prompt_field, completion_field)
        self.special = special
        self._on_error = on_error

    def render(self, batch: SourceBatch, path: str) -> SourceBatch:
        """See `ChatRenderer.render`."""
        return _collect(batch, [self._answer(record) for record in _records(batch)], path, self._on_error)

    def _answer(self, record: bytes) -> Answer:
        fields = msgspec.json.decode(record)
        parts = [fields.get(name) for name in self.fields]
        for name, part in zip(self.fields, parts, strict=True):
            if not isinstance(part, str):
                return Answer(refused=f"field {name!r} is no string")
        prompt, completion = (part.encode() for part in parts)
        whole = prompt + completion
        return Answer(whole, [(len(prompt), len(whole))] if completion else [])


class Conversations:
    """Conversations through a chat template, which runs in a process of its own (`tokpack.chat.worker`).

    ``literal`` are special tokens that a message must not spell, since the rendered text is parsed for those
    of the template; an empty one lets messages write special tokens.
    """

    special: Special = "parse"

    def __init__(
        self,
        template: str,
        tokens: Mapping[str, str],
        *,
        messages_field: str = "messages",
        literal: Sequence[str] = (),
        on_error: OnError = "fail",
    ) -> None:
        self.fields = (messages_field, "tools", "documents")
        self._setup = Setup(template, dict(tokens), messages_field, list(literal))
        self._on_error = on_error
        self._process: _Process | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        setup = self._setup
        return (
            _conversations,
            (setup.template, setup.tokens, setup.messages_field, setup.literal, self._on_error),
        )

    def render(self, batch: SourceBatch, path: str) -> SourceBatch:
        """See `ChatRenderer.render`."""
        with self._lock:
            if self._process is None or self._process.owner != os.getpid():
                self._process = _Process(self._setup)
            answers = self._process.ask(_records(batch))
        return _collect(batch, answers, path, self._on_error)


def _conversations(
    template: str, tokens: Mapping[str, str], messages_field: str, literal: Sequence[str], on_error: OnError
) -> Conversations:
    return Conversations(template, tokens, messages_field=messages_field, literal=literal, on_error=on_error)


class _Process:
    """The worker and the pipes to it. Ends with its owner; a forked child starts one of its own."""

    def __init__(self, setup: Setup) -> None:
        if importlib.util.find_spec("jinja2") is None:
            raise UsageError("chat templates need Jinja; try: pip install 'tokpack[chat]'")
        self.owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, *filter(None, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        weakref.finalize(self, _end, self._process, self.owner)
        opened = msgspec.msgpack.decode(self._exchange(setup), type=Answer)
        if opened.fatal is not None:
            raise UsageError(f"{opened.fatal}; correct it, or name another one by --chat-template FILE")

    def ask(self, records: list[bytes]) -> list[Answer]:
        return msgspec.msgpack.decode(self._exchange(records), type=list[Answer])

    def _exchange(self, request: Any) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            write_frame(self._process.stdin, request)
            answer = read_frame(self._process.stdout)
        except BrokenPipeError:
            answer = b""
        if not answer:
            code = self._process.wait()
            how = "ran for too long" if -code == getattr(signal, "SIGXCPU", None) else f"ended it ({code})"
            raise UsageError(
                f"the process of the chat template is gone: the template {how}; read the template, or name "
                "another one by --chat-template FILE"
            )
        return answer


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    if os.getpid() == owner:  # a forked child holds a copy, and no child process of that number
        process.wait()


def _records(batch: SourceBatch) -> list[bytes]:
    data, edges = batch.texts.data.data, batch.texts.offsets.tolist()
    return [bytes(data[a:b]) for a, b in itertools.pairwise(edges)]


def _collect(batch: SourceBatch, answers: list[Answer], path: str, on_error: OnError) -> SourceBatch:
    kept: list[int] = []
    problems: list[Problem] = list(batch.problems)
    for index, answer in enumerate(answers):
        position = int(batch.positions[index])
        if answer.fatal is not None:
            raise UsageError(
                f"{path}: {answer.fatal}; read the template, or name another one by --chat-template FILE"
            )
        if answer.spelled is not None:
            detail = f"a message spells {answer.spelled!r}; --special parse takes it for the special token"
            problems.append(settle("special-token", path, position, detail, on_error=on_error))
        elif answer.refused is not None:
            problems.append(settle("bad-chat", path, position, answer.refused, on_error=on_error))
        else:
            kept.append(index)
    texts = TextBatch.from_utf8([answers[index].text for index in kept])
    trained = np.zeros(texts.nbytes, dtype=np.uint8)
    for index, first in zip(kept, texts.offsets.tolist(), strict=False):
        for start, stop in answers[index].spans:
            trained[first + start : first + stop] = 1
    texts = replace(texts, columns={"trained": trained})
    return SourceBatch(texts, batch.positions[kept], tuple(problems))
