"""Settings that name code, and templates that reach for it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from attacks.case import Attack, marked
from attacks.pickles import canonical

_EVIL = "import os, pathlib\nos.mkdir(pathlib.Path(__file__).resolve().parent.parent / 'ran')\n"
KEYS: dict[str, Any] = {
    "auto_map": {"AutoTokenizer": ["evil.Evil", None]},
    "trust_remote_code": True,
    "tokenizer_class": "evil.Evil",
    "custom_pipelines": {"x": {"impl": "evil.Evil"}},
    "plugin": "evil:Evil",
    "module": "evil",
    "entry_point": "evil:Evil",
    "__reduce__": ["evil", "Evil"],
}


def add(target: str, key: str, path: Path) -> None:
    (path / "evil.py").write_text(_EVIL)
    values = json.loads((path / target).read_text()) | {key: KEYS[key]}
    (path / target).write_text(canonical(values) if target == "manifest.json" else json.dumps(values))


def loads_it(target: str, key: str, path: Path) -> bool:
    """A setting that names a module has it imported from beside the file."""
    assert key in json.loads((path / target).read_text())
    spec = importlib.util.spec_from_file_location("evil", path / "evil.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return marked(path)


TEMPLATES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ messages.__class__ }}",
    "{{ messages.__init__ }}",
    "{{ (messages|attr('__class__')) }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ joiner.__init__.__globals__.os }}",
    "{{ namespace.__init__.__globals__.os }}",
    "{{ lipsum.__globals__['os'] }}",
    "{{ self.__init__ }}",
    "{{ ''['__class__'] }}",
    "{% set a = messages.append(1) %}x",
    "{% set a = messages[0].update(role='x') %}x",
    "{% set a = messages.clear() %}x",
    "{{ '{0.__class__}'.format('') }}",
    "{{ '%s'.__mod__ }}",
    "{{ messages[0].pop('role') }}",
]


def write_template(source: str, path: Path) -> None:
    path.mkdir(exist_ok=True)
    (path / "template.jinja").write_text(source)


def renders(path: Path) -> bool:
    """An environment without a sandbox gives what is asked for."""
    source = (path / "template.jinja").read_text()
    messages = [{"role": "user", "content": "hi"}]
    return bool(jinja2.Environment(autoescape=False).from_string(source).render(messages=messages))


def _attacks() -> Iterator[Attack]:
    for key in KEYS:
        for good, target, harmless in (
            ("bin", "manifest.json", False),
            ("tokenizer", "tokenizer_config.json", True),
            ("tokenizer", "tokenizer.json", False),
            ("checkpoint", "checkpoints/step-00000001/checkpoint.json", True),
        ):
            attack = partial(add, target, key), partial(loads_it, target, key)
            yield Attack(f"{good}, {target}: {key}", good, *attack, harmless)
    for source in TEMPLATES:
        yield Attack(f"template {source}", "template", partial(write_template, source), renders)


ATTACKS = list(_attacks())
