"""What is interrupted: small but complete pieces of work, each with the result it must come to."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from layer import CRASHED, Fault, Operation, interposed

from tokpack.dataset.store import open_dataset
from tokpack.encoding.convert import ConvertOptions, convert
from tokpack.encoding.options import EncodeOptions
from tokpack.encoding.run import encode_job
from tokpack.packed_rows.run import pack_dataset
from tokpack.protocols import SourceOptions

FORMATS = ("bin", "npy", "jsonl", "parquet", "arrow")
OUTPUT = "out"


@dataclass(frozen=True, slots=True)
class Scenario:
    """``act`` works in a folder that ``prepare`` filled; OUTPUT is what it makes."""

    name: str
    prepare: Callable[[Path], None]
    act: Callable[[Path], None]
    replaces: bool = False  # OUTPUT exists before
    uninterrupted: dict[str, bytes] = field(
        default_factory=dict
    )  # what OUTPUT must hold, where that is known


def run_forked(act: Callable[[], object]) -> int:
    """Run ``act`` in a forked child; return its exit status (0: returned, 1: raised)."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def record(scenario: Scenario, folder: Path) -> list[Operation]:
    """Run without a fault and return every operation."""
    with interposed(folder) as layer:
        scenario.act(folder)
    return layer.log


def interrupted(scenario: Scenario, folder: Path, fault: Fault) -> tuple[BaseException | None, bool]:
    """Run under a fault; return what was raised (None also for a crash), and whether the process died."""
    if fault.how != "error" and fault.how != "short":
        with interposed(folder, fault):
            status = run_forked(lambda: scenario.act(folder))
        # The journal is synced by the clock: a run may have an operation less than the recorded one.
        assert status in (0, CRASHED), f"{scenario.name}, {fault}: ended with {status}"
        return None, status == CRASHED
    with interposed(folder, fault):
        try:
            scenario.act(folder)
        except Exception as error:
            return error, False
    return None, False


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, with its content."""
    found: dict[str, bytes] = {}
    for root, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(root, name)  # noqa: PTH118 (thousands of times, it counts)
            with open(path, "rb") as file:  # noqa: PTH123
                found[path[len(str(folder)) + 1 :]] = file.read()
    return found


def _write_corpus(folder: Path, documents: int) -> None:
    lines = [json.dumps({"text": f"document {number} " * (number % 4)}) for number in range(documents)]
    lines[documents // 2] = "{broken"  # so that there is a quarantine report as well
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")


def encode_scenario(
    format_name: str,
    *,
    documents: int = 9,
    shard_bytes: int | None = 100,
    unit_bytes: int = 200,
    overwrite: bool = False,
    workers: int = 1,
) -> Scenario:
    options = EncodeOptions(
        tokenizer="byte",
        format=format_name,
        shard_bytes=shard_bytes,
        unit_bytes=unit_bytes,
        val_fraction=0.2,
        source=SourceOptions(on_error="skip"),
    )

    def prepare(folder: Path) -> None:
        _write_corpus(folder, documents)
        if overwrite:
            (folder / "old.txt").write_text("what stood here before")
            encode_job([str(folder / "old.txt")], EncodeOptions(tokenizer="byte"), output=folder / OUTPUT)

    def act(folder: Path) -> None:
        inputs, output = [str(folder / "a.jsonl")], folder / OUTPUT
        encode_job(inputs, options, output=output, overwrite=overwrite, workers=workers)

    name = f"{'replace' if overwrite else 'encode'} {format_name}"
    return Scenario(name, prepare, act, replaces=overwrite)


def resume_scenario(format_name: str) -> Scenario:
    """An encode that goes on where one was killed, about in the middle, and in the midst of a unit."""
    fresh = encode_scenario(format_name, documents=12, unit_bytes=500)
    uninterrupted: dict[str, bytes] = {}

    def prepare(folder: Path) -> None:
        fresh.prepare(folder)
        middle = 2 * len(record(fresh, folder)) // 3
        uninterrupted.update(snapshot(folder / OUTPUT))
        shutil.rmtree(folder / OUTPUT)
        interrupted(fresh, folder, Fault("crash-after", middle))
        assert (folder / f"{OUTPUT}.partial" / "journal").stat().st_size

    return Scenario(f"resume {format_name}", prepare, fresh.act, uninterrupted=uninterrupted)


def stdin_scenario() -> Scenario:
    """An encode of standard input, which is kept in the folder of unfinished work."""
    options = EncodeOptions(tokenizer="byte", unit_bytes=200, source=SourceOptions(on_error="skip"))

    def act(folder: Path) -> None:
        with (folder / "a.jsonl").open("rb") as stream:
            encode_job(["-"], options, output=folder / OUTPUT, stdin=stream)

    return Scenario("encode stdin", lambda folder: _write_corpus(folder, 9), act)


def convert_scenario(format_name: str) -> Scenario:
    origin = encode_scenario("npy" if format_name == "bin" else "bin")

    def prepare(folder: Path) -> None:
        origin.prepare(folder)
        origin.act(folder)
        (folder / OUTPUT).rename(folder / "origin")

    def act(folder: Path) -> None:
        convert(folder / "origin", folder / OUTPUT, ConvertOptions(format=format_name, shard_bytes=100))

    return Scenario(f"convert {format_name}", prepare, act)


def pack_scenario(format_name: str) -> Scenario:
    origin = encode_scenario("bin")

    def prepare(folder: Path) -> None:
        origin.prepare(folder)
        origin.act(folder)
        (folder / OUTPUT).rename(folder / "origin")

    def act(folder: Path) -> None:
        pack_dataset(open_dataset(folder / "origin"), folder / OUTPUT, seq_len=32, format_name=format_name)

    return Scenario(f"pack {format_name}", prepare, act)
