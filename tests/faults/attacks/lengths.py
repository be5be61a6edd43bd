"""Headers that claim more than there is: whoever believes them asks for the memory first."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from attacks.case import Attack
from attacks.pickles import reseal

#: What a program may be made to ask for before it notices; none here has a file of a hundredth of that.
TOO_MUCH = 1 << 30
CLAIMS = (2**30, 2**31 - 1, 2**32 - 1, 2**40, 2**62)


def _changed(target: str, change: Callable[[bytes], bytes], path: Path) -> None:
    content = change((path / target).read_bytes())
    (path / target).write_bytes(content)
    reseal(path, target, content)


def npy(claim: int, content: bytes) -> bytes:
    header = f"{{'descr': '<u2', 'fortran_order': False, 'shape': ({claim},), }}".encode()
    header = header.ljust(117) + b"\n"
    return content[:8] + struct.pack("<H", len(header)) + header + content[-64:]


def npy_claim(content: bytes) -> int:
    header = content[10 : 10 + struct.unpack_from("<H", content, 8)[0]].decode()
    return int(header.partition("(")[2].partition(",")[0]) * 2


def index(field: int, claim: int, content: bytes) -> bytes:
    return content[: 18 + 8 * field] + struct.pack("<Q", claim) + content[26 + 8 * field :]


def index_claim(field: int, content: bytes) -> int:
    return int(struct.unpack_from("<Q", content, 18 + 8 * field)[0]) * 8


def tensors(claim: int, content: bytes) -> bytes:
    return struct.pack("<Q", claim) + content[8:]


def tensors_claim(content: bytes) -> int:
    return int(struct.unpack_from("<Q", content)[0])


def footer(size: int, claim: int, content: bytes) -> bytes:
    """Both Parquet and Arrow end with the size of the footer and a magic word."""
    return content[: -size - 4] + struct.pack("<I", claim & 0xFFFFFFFF) + content[-size:]


def footer_claim(size: int, content: bytes) -> int:
    return int(struct.unpack_from("<I", content, len(content) - size - 4)[0])


def message(claim: int, content: bytes) -> bytes:
    """The first message of an Arrow file, which says how large its metadata are."""
    return content[:12] + struct.pack("<I", claim & 0x7FFFFFFF) + content[16:]


def message_claim(content: bytes) -> int:
    return int(struct.unpack_from("<I", content, 12)[0])


def believes(target: str, claimed: Callable[[bytes], int], path: Path) -> bool:
    """It would ask for what the header claims; that is not done here, for the machine's sake."""
    content = (path / target).read_bytes()
    return claimed(content) >= TOO_MUCH - 64 and len(content) < TOO_MUCH // 100


def _attacks() -> Iterator[Attack]:
    step = "checkpoints/step-00000001/"
    for claim in CLAIMS:
        cases: list[tuple[str, str, Callable[[bytes], bytes], Callable[[bytes], int]]] = [
            ("npy", "train-00000.npy", partial(npy, claim), npy_claim),
            ("megatron", "train-00000.idx", partial(index, 0, claim), partial(index_claim, 0)),
            ("megatron", "train-00000.idx", partial(index, 1, claim), partial(index_claim, 1)),
            ("checkpoint", f"{step}model.safetensors", partial(tensors, claim), tensors_claim),
            ("checkpoint", f"{step}rng.safetensors", partial(tensors, claim), tensors_claim),
        ]
        if claim < 2**32:
            cases += [
                ("parquet", "train-00000.parquet", partial(footer, 4, claim), partial(footer_claim, 4)),
                ("arrow", "train-00000.arrow", partial(footer, 6, claim), partial(footer_claim, 6)),
                ("arrow", "train-00000.arrow", partial(message, claim), message_claim),
            ]
        for good, target, change, claimed in cases:
            name = getattr(change, "func", change).__name__
            field = getattr(change, "args", ())[:-1]
            yield Attack(
                f"{good}, {target}: {name}{list(field)} of {claim:,}",
                good,
                partial(_changed, target, change),
                partial(believes, target, claimed),
            )


ATTACKS = list(_attacks())
