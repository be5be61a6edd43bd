"""Sphinx settings; the page of the command line is written anew at each build, so it cannot go stale."""

from pathlib import Path
from typing import Any

from tokpack import __version__
from tokpack.cli.app import load_command
from tokpack.plugins import discover

project = "tokpack"
author = "the tokpack developers"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "tokpack"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"


def command_page() -> str:
    """Return the reference of all commands that tokpack itself announces, from their own help."""
    commands = discover().commands
    own = [name for name in commands if commands.provider(name).plugin == "builtin"]
    return "\n".join(
        ["# Command line\n", *(command_section(name, load_command(commands[name])) for name in own)]
    )


def command_section(name: str, command: Any) -> str:
    """Return one command: its help, and a table of its parameters."""
    lines = [f"## tokpack {name}\n", f"{(command.help or '').strip()}\n"]
    lines += ["| parameter | default | meaning |", "|---|---|---|"]
    for parameter in command.params:
        names = ", ".join(f"`{option}`" for option in [*parameter.opts, *parameter.secondary_opts])
        if parameter.param_type_name == "argument":
            names = f"`{parameter.metavar or parameter.name.upper()}`"
        shown = parameter.default not in (None, (), [], False, ...) and not parameter.required
        meaning = " ".join((getattr(parameter, "help", "") or "").split()).replace("|", "\\|")
        lines.append(f"| {names} | {f'`{parameter.default}`' if shown else ''} | {meaning} |")
    return "\n".join(lines) + "\n"


Path(__file__).with_name("reference").joinpath("cli.md").write_text(command_page())
