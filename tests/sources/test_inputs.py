"""From what a person typed to the files that are read."""

from __future__ import annotations

from pathlib import Path

from tokpack.plugins import discover
from tokpack.sources.inputs import find_inputs, natural_key


def test_natural_order() -> None:
    names = ["part-10", "part-9", "part-1", "a2b10", "a2b9", "a10"]
    assert sorted(names, key=natural_key) == ["a2b9", "a2b10", "a10", "part-1", "part-9", "part-10"]


def test_folders_and_globs_in_natural_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b10.txt", "b9.txt", "sub/a.jsonl", ".hidden.txt", ".git/x.txt", "note.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    sources = discover().sources
    found = find_inputs([str(tmp_path)], sources=sources)
    assert [item.name for item in found] == ["b9.txt", "b10.txt", "sub/a.jsonl"]
    assert [item.kind for item in found] == ["text", "text", "jsonl"]
    found = find_inputs([str(tmp_path / "b*.txt")], sources=sources)
    assert [item.name for item in found] == ["b9.txt", "b10.txt"]
