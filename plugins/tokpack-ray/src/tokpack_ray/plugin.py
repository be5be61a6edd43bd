"""What this distribution announces. Imported by every `tokpack` command, so it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

from tokpack.hookspecs import hookimpl
from tokpack.specs import ExecutorSpec

TOKPACK_HOOK_VERSION = 1


@hookimpl
def tokpack_register_executors() -> Iterable[ExecutorSpec]:
    """Announce the executor."""
    yield ExecutorSpec(
        "ray",
        "workers of a Ray cluster whose nodes share a file system",
        open="tokpack_ray.executor:RayExecutor",
    )
