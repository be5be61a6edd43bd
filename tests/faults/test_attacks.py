"""Files that a stranger could hand over: each harms its naive victim first, and then not tokpack."""

from __future__ import annotations

import resource
import shutil
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import pytest
from attacks import bombs, json_tricks, kinds, lengths, names, pickles, remote_code
from attacks.case import READERS, Attack, marked, read, read_dataset
from attacks.goods import make_all
from tripwire import tripwire

from tokpack.chat.template import ChatTemplate, RefusedError
from tokpack.errors import TokpackError
from tokpack.plugins import discover

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
MODULES = (pickles, names, kinds, lengths, bombs, json_tricks, remote_code)
#: Beyond this a reader has believed what it was told. What the victims need of it is taken before.
GROWTH_MIB = 200


def read_template(path: Path) -> None:
    try:
        ChatTemplate((path / "template.jinja").read_text(), {}).render([{"role": "user", "content": "hi"}])
    except RefusedError as error:
        raise TokpackError(str(error)) from None


READERS["template"] = read_template


@pytest.fixture(scope="module")
def goods(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("torch")
    made = make_all(tmp_path_factory.mktemp("goods"), set(discover().formats))
    for name, path in made.items():  # whatever is imported on first use is imported now
        if name == "source":
            for kind, text in (
                ("jsonl.gz", '{"text": 1}'),
                ("csv", "text\na\n"),
                ("txt.zst", "a"),
                ("txt", "a"),
            ):
                warm_up(path / f"a.{kind}", text)
        else:
            READERS.get(name, read_dataset)(path)
    return made


def warm_up(path: Path, text: str) -> None:
    path.write_text(text)
    with suppress(TokpackError):
        READERS["source"](path)
    path.unlink()


def fresh(attack: Attack, goods: dict[str, Path], folder: Path) -> Path:
    """Prepare the attack in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    good = attack.good.partition(":")[0]
    path = folder / "thing"
    if good in goods:
        shutil.copytree(goods[good], path)
    attack.prepare(path)
    return path / attack.good.partition(":")[2] if ":" in attack.good else path


def judge(attack: Attack, goods: dict[str, Path], folder: Path) -> str | None:
    """Let the victim and then tokpack read it; return what is wrong."""
    path = fresh(attack, goods, folder)
    whole = path.parent if ":" in attack.good else path
    if not attack.victim(whole):
        return "does not harm its victim"
    path = fresh(attack, goods, folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused: str | None = None
    with tripwire() as heard:
        try:
            read(attack, path)
        except TokpackError as error:
            refused = str(error)
        except BaseException as error:
            return f"raised {error!r:.300}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    if heard and attack.good != "template":  # which Jinja compiles, in its sandbox
        return f"did {heard[:3]}"
    if marked(path):
        return "ran its code"
    if grown > GROWTH_MIB:
        return f"took {grown} MiB"
    if (refused is None) is not attack.harmless:
        return "was not refused" if refused is None else f"was refused: {refused}"
    return None


ATTACKS = [
    (module.__name__.rpartition(".")[2], good, list(attacks))
    for module in MODULES
    for good, attacks in groupby(
        sorted(module.ATTACKS, key=lambda attack: attack.good.partition(":")[0]),
        key=lambda attack: attack.good.partition(":")[0],
    )
]


@pytest.mark.parametrize(
    ("module", "good", "attacks"), ATTACKS, ids=[f"{module}-{good}" for module, good, _ in ATTACKS]
)
def test_attacks(
    module: str, good: str, attacks: list[Attack], goods: dict[str, Path], memory: Path, proved
) -> None:
    if good not in goods and good not in READERS:
        pytest.skip(f"the format {good} is not installed")
    wrong = {attack.name: problem for attack in attacks if (problem := judge(attack, goods, memory / "x"))}
    assert not wrong, "\n".join(f"{name}: {problem}" for name, problem in wrong.items())
    proved("attacks", len(attacks))


def test_there_are_two_hundred() -> None:
    found = [attack.name for module in MODULES for attack in module.ATTACKS]
    assert len(found) == len(set(found)) >= 200
