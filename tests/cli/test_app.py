"""The command line as a whole: quick, lazy, and clear about mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("numpy", "torch", "pyarrow", "tiktoken", "tokenizers", "sentencepiece", "msgspec")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['tokpack', '--help']\nfrom tokpack.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\nassert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_help_lists_the_commands_with_their_summaries(tokpack) -> None:
    done = tokpack("--help")
    assert done.returncode == 0
    for line in ("encode", "turn text into a dataset", "verify", "plugins"):
        assert line in done.stdout


def test_every_command_explains_itself(tokpack) -> None:
    listed = tokpack("plugins", "command", "--json")
    import json

    names = [row["name"] for row in json.loads(listed.stdout)]
    assert {"encode", "verify", "info", "decode", "plugins"} <= set(names)
    for name in names:
        done = tokpack(name, "--help")
        assert done.returncode == 0, (name, done.stderr)
        assert "Usage: tokpack" in done.stdout


def test_an_unknown_command_says_what_was_meant(tokpack) -> None:
    done = tokpack("encod")
    assert done.returncode == 2
    assert "Did you mean 'encode'?" in done.stderr


def test_version(tokpack) -> None:
    import tokpack as package

    assert tokpack("--version").stdout == f"tokpack {package.__version__}\n"


def test_plugins_shows_kind_name_provider_version_summary_and_state(tokpack) -> None:
    done = tokpack("plugins")
    assert done.returncode == 0
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["kind", "name", "provider", "version", "state", "summary"]
    row = next(row for row in rows if row.startswith("format") and " bin " in row)
    assert row.split()[:5] == ["format", "bin", "tokpack", row.split()[3], "ready"]


def test_a_broken_plugin_is_shown_and_breaks_nothing(tokpack, tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "tokpack_broken-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tokpack-broken\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[tokpack]\nbroken = tokpack_broken\n")
    (site / "tokpack_broken.py").write_text("import does_not_exist\n")
    done = tokpack("plugins", PYTHONPATH=str(site))
    assert done.returncode == 0
    assert "tokpack-broken" in done.stdout
    assert "ModuleNotFoundError: No module named 'does_not_exist'" in done.stdout
    assert "Traceback" in tokpack("plugins", "-v", PYTHONPATH=str(site)).stdout
    (tmp_path / "a.txt").write_text("hello")
    assert tokpack("encode", "a.txt", "-t", "byte", PYTHONPATH=str(site)).returncode == 0


def test_the_reader_of_a_pipe_may_leave(tmp_path: Path) -> None:
    script = f"{Path(sys.executable).with_name('tokpack')} plugins --json | head -c 10"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith("[")


@pytest.mark.parametrize("arguments", [["--nonsense"], ["encode", "--workers", "two"]])
def test_wrong_usage_exits_2(tokpack, arguments: list[str]) -> None:
    done = tokpack(*arguments)
    assert done.returncode == 2
    assert "Usage" in done.stderr
