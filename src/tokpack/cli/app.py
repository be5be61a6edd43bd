"""`tokpack`: puts together the commands of whatever plugins are installed, and turns errors into exit codes.

A command's module is imported when that command runs, so `tokpack --help` imports none of them.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import typer
import typer.core

from tokpack import __version__
from tokpack.errors import TokpackError
from tokpack.plugins import Registry, discover
from tokpack.specs import CommandSpec, load

__all__ = ["load_command", "main"]

_EPILOG = "A first dataset: tokpack encode --tokenizer byte ./data; then: tokpack verify ./tokenized"


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived: unwind, leaving work that can be continued."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _LazyGroup(typer.core.TyperGroup):
    """Lists commands from their records; imports one only to run it or to show its own help."""

    # Typer carries a copy of Click in newer releases, so Click's types cannot be named here.
    def list_commands(self, ctx: Any) -> list[str]:
        return list(_commands())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        commands = _commands()
        if cmd_name not in commands:
            return None
        spec = commands[cmd_name]
        return typer.core.TyperCommand(cmd_name, help=spec.summary, rich_help_panel=spec.group)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name.startswith("-"):
            return super().resolve_command(ctx, args)
        return name, load_command(_commands()[name]), args[1:]


def _commands() -> Registry[CommandSpec]:
    return discover().commands


def load_command(spec: CommandSpec) -> Any:
    """Import a command and return it as Click sees it."""
    application = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    application.command(spec.name, no_args_is_help=False)(load(spec.open))
    return typer.main.get_command(application)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"tokpack {__version__}")
        raise typer.Exit


_app = typer.Typer(
    cls=_LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",  # a Markdown parser would cost a fifth of the time to print this help
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@_app.callback()
def _root(
    version: bool = typer.Option(False, "--version", help="Show the version.", callback=_show_version),
) -> None:
    """Prepare token data for language-model training and feed it: encode, verify, sample, train."""


def _on_signal(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def main() -> None:
    """Run the command line and exit with the code that `tokpack.errors` documents."""
    _open_closed_streams()
    # Opening a vocabulary makes objects by the hundred thousand, none of them garbage.
    gc.set_threshold(50_000)
    signal.signal(signal.SIGTERM, _on_signal)
    signal.signal(signal.SIGINT, _on_signal)
    sys.exit(_run(sys.argv[1:]))


def _open_closed_streams() -> None:
    """Let standard streams that were closed lead nowhere: else files opened later take their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _run(arguments: list[str]) -> int | str | None:
    command = typer.main.get_command(_app)
    try:
        command.main(arguments, prog_name="tokpack")
    except SystemExit as end:
        return end.code
    except Stopped as stop:
        with suppress(OSError):
            typer.echo("\nstopped; run the same command again to continue", err=True)
        return 128 + stop.number
    except TokpackError as error:
        return _fail(str(error), error.exit_code, error)
    except BrokenPipeError:
        # The reader has left (`tokpack info | head`): nothing is wrong, and nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        return _fail(f"cannot access{where}: {error.strerror or error}", 4, error)
    except MemoryError as error:
        return _fail("out of memory; use fewer --workers or smaller batches", 4, error)
    return 0


def _fail(message: str, code: int, error: BaseException) -> int:
    if os.environ.get("TOKPACK_DEBUG"):
        raise error
    with suppress(OSError):  # standard error may be on the very disk that is full: the exit code remains
        typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
        typer.echo(message, err=True)
    return code
