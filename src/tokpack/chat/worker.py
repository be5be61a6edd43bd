"""The process in which a chat template runs: a stranger's code, within limits that the system enforces.

It reads requests from standard input and answers on standard output, each a length (8 bytes, little-endian)
and that many bytes of MessagePack. It imports neither numpy nor a tokenizer. The sandbox of
`tokpack.chat.template` keeps a template from what it must not touch; what is bounded here are the processor
time of one conversation (``def f(n): f(n-1); f(n-1)`` in Jinja), memory (a string doubled forty times) and
files, of which none can be written.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from tokpack.chat.frames import Answer, Setup, read_frame, write_frame
from tokpack.chat.template import ChatTemplate, RefusedError

__all__ = ["main"]

SECONDS = 1.0
SECONDS_PER_MESSAGE = 0.01
MEMORY_BYTES = 1 << 28


class _LimitError(BaseException):
    # No Exception: nothing between here and the template may take it for an ordinary failure.
    pass


def main() -> None:
    """Serve requests until standard input ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    setup = msgspec.msgpack.decode(read_frame(requests), type=Setup)
    _limit_process()
    # Jinja works out constants while it compiles: that is within the limits, too.
    template, problem = _compiled(setup)
    write_frame(answers, Answer(fatal=problem))
    while template is not None and (frame := read_frame(requests)):
        records = msgspec.msgpack.decode(frame, type=list[bytes])
        write_frame(answers, [_answer(template, setup, record) for record in records])


def _compiled(setup: Setup) -> tuple[ChatTemplate | None, str | None]:
    try:
        with _limited(SECONDS):
            return ChatTemplate(setup.template, setup.tokens), None
    except RefusedError as error:
        return None, str(error)
    except (_LimitError, MemoryError):
        return None, "the chat template takes too long or too much memory to compile"


def _answer(template: ChatTemplate, setup: Setup, record: bytes) -> Answer:
    try:
        fields = msgspec.json.decode(record)
        messages = fields.get(setup.messages_field)
        if (spelled := _spelled([messages, fields.get("tools")], setup.literal)) is not None:
            return Answer(spelled=spelled)
        seconds = SECONDS + SECONDS_PER_MESSAGE * (len(messages) if isinstance(messages, list) else 0)
        with _limited(seconds):
            text, spans = template.render(
                messages, tools=fields.get("tools"), documents=fields.get("documents")
            )
        return Answer(text.encode(), _in_bytes(text, spans))
    except RefusedError as error:
        return Answer(refused=str(error))
    except _LimitError:
        return Answer(fatal=f"the chat template runs for more than {SECONDS:g} s on one conversation")
    except MemoryError:
        return Answer(fatal=f"the chat template wants more than {MEMORY_BYTES >> 20} MiB of memory")
    except (ValueError, RecursionError, AttributeError) as error:
        return Answer(refused=f"it is no JSON object that can be read: {error}")


def _spelled(value: Any, literal: list[str]) -> str | None:
    """Return the first special token that a string anywhere in ``value`` spells."""
    waiting = [value]
    while waiting and literal:
        item = waiting.pop()
        if isinstance(item, str):
            if found := next((token for token in literal if token in item), None):
                return found
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return None


def _in_bytes(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    if text.isascii():
        return spans
    converted, chars, size = [], 0, 0
    for start, stop in spans:
        first = size + len(text[chars:start].encode())
        size = first + len(text[start:stop].encode())
        chars = stop
        converted.append((first, size))
    return converted


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Stop what takes more processor time: by an exception, else, inside one long call, by the system."""
    if not hasattr(signal, "setitimer"):  # the parent's own limit must do
        yield
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(
        resource.RLIMIT_CPU,
        (int(used.ru_utime + used.ru_stime + seconds) + 2, resource.getrlimit(resource.RLIMIT_CPU)[1]),
    )
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _limit_process() -> None:
    if not hasattr(signal, "setitimer"):
        return
    import resource

    def stop(*_: object) -> NoReturn:
        raise _LimitError

    signal.signal(signal.SIGVTALRM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business; this one ends with it
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    held = _address_space()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY_BYTES, held + MEMORY_BYTES))


def _address_space() -> int:
    """Return the bytes of address space in use, or a generous guess where the system does not say."""
    import resource

    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 1 << 28
