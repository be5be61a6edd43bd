"""The page of settings is made from `config.py`; run this file to write it anew."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from tokpack.train import config

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "train-settings.md"
_FIELD = re.compile(r"    (\w+): ([^=]+?) = ([^#\n]+?)(?:  # (.+))?")
_HEAD = """# Settings of `tokpack train`

As `--set SECTION.KEY=VALUE`, or in a TOML file for `--config`. Steps are optimizer steps.
"""


def page() -> str:
    parts = [_HEAD]
    for section, kind in config.Settings.__annotations__.items():
        if section == "preset":
            continue
        owner = getattr(config, str(kind))
        parts.append(f"\n## `[{section}]`\n\n{inspect.getdoc(owner)}\n\n| key | default | |\n|---|---|---|\n")
        for line in inspect.getsource(owner).splitlines():
            if match := _FIELD.fullmatch(line):
                name, type_name, default, comment = match.groups()
                if type_name.startswith("Literal"):
                    choices = ", ".join(f"`{choice}`" for choice in re.findall(r'"([^"]+)"', type_name))
                    comment = f"{choices}{'; ' + comment if comment else ''}"
                if default.startswith("field"):
                    default = "{}"
                parts.append(f"| `{name}` | `{default}` | {comment or ''} |\n")
    return "".join(parts)


def test_the_page_of_settings_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/train/test_docs.py"


def test_every_setting_is_on_the_page() -> None:
    text = page()
    for section, values in config.Settings().to_dict().items():
        for name in values if isinstance(values, dict) else ():
            assert f"| `{name}` |" in text, f"{section}.{name}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
