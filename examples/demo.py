"""The whole road on text that every machine has: Python's own standard library. `make demo` runs this.

It collects text, then runs the real commands, each printed before it runs. Nothing is downloaded. Everything
is written into ./demo, which is made anew.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

FOLDER = Path("demo")
CORPUS_BYTES = 12_000_000
HELD_OUT = 20  # every 20th file goes to validation

COMMANDS = """
tokpack train-tokenizer data/train.jsonl --validation data/validation.jsonl --vocab-size 2048 --output tok
tokpack encode data/train.jsonl --validation data/validation.jsonl --tokenizer bpe:./tok --format bin
tokpack verify ./tokenized
tokpack info ./tokenized
tokpack decode ./tokenized --split validation --tokens 0:120
tokpack train --sampler random-block --preset tiny --batch-size 8 --max-iters 120 --eval-every 60 --name demo
tokpack generate runs/demo --prompt "def main(" --max-tokens 80 --seed 1
tokpack plot runs/demo
"""


def collect(folder: Path) -> None:
    """Write the standard library's modules as JSON lines, one document each, in a fixed order."""
    folder.mkdir(parents=True)
    left = CORPUS_BYTES
    with (folder / "train.jsonl").open("w") as train, (folder / "validation.jsonl").open("w") as validation:
        sources = sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*/**/*.py"))
        for number, path in enumerate(source for source in sources if "site-packages" not in source.parts):
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):  # a few test files are broken on purpose
                continue
            file = validation if number % HELD_OUT == 0 else train
            print(json.dumps({"text": text, "path": path.name}), file=file)
            left -= len(text)
            if left < 0:
                return


def run(command: str) -> None:
    """Print a command, then run it as a person would."""
    print(f"\n$ {command}", flush=True)
    subprocess.run(shlex.split(command), cwd=FOLDER, check=True)


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    collect(FOLDER / "data")
    for command in COMMANDS.strip().splitlines():
        run(command)
    print(f"\nAll of it lies in {FOLDER}/. Now try it on a text of your own: tokpack encode --help")


if __name__ == "__main__":
    sys.exit(main())
