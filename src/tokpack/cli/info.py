"""`tokpack info`: what a dataset holds, at a glance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from tokpack.cli.console import format_bytes, format_count, ledger_line, print_json, print_table, table
from tokpack.dataset.manifest import Manifest, read_manifest

__all__ = ["info"]


def info(
    dataset: Annotated[Path, typer.Argument(help="Folder of the dataset.")] = Path("tokenized"),
    shards: Annotated[bool, typer.Option("--shards", help="List every shard.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest and the root digest.")] = False,
) -> None:
    """Show splits, documents, tokens, tokenizer, settings and sources. Reads only the manifest."""
    manifest = read_manifest(dataset)
    if as_json:
        content: dict[str, Any] = msgspec.to_builtins(manifest)
        print_json(content | {"root_digest": manifest.root_digest})
        return
    _print_splits(manifest)
    if shards:
        _print_shards(manifest)
    tokenizer = manifest.tokenizer
    settings = {name: value for name, value in manifest.options.items() if name != "source"}
    typer.echo(
        f"\ntokenizer  {tokenizer.reference}, {format_count(tokenizer.vocab_size)} ids, {tokenizer.engine}\n"
        f"           BOS {_id(tokenizer.bos_id)}, EOS {_id(tokenizer.eos_id)}, "
        f"fingerprint {tokenizer.fingerprint[:16]}…\n"
        f"format     {manifest.format.name}, {manifest.dtype} little-endian"
        f"{''.join(f', {name}={value}' for name, value in manifest.format.options.items())}\n"
        f"columns    {', '.join(['tokens', *manifest.columns])}\n"
        f"settings   {', '.join(f'{name}={value}' for name, value in settings.items())}\n"
        f"sources    {len(manifest.sources):,}, "
        f"{format_bytes(sum(source.size_bytes for source in manifest.sources))}: "
        f"{', '.join(source.name for source in manifest.sources[:3])}"
        f"{', …' if len(manifest.sources) > 3 else ''}\n"
        f"{ledger_line(manifest.ledger)}\n"
        f"made by    {manifest.created_by}\n"
        f"root digest {manifest.root_digest}"
    )


def _id(token_id: int | None) -> str:
    return "none" if token_id is None else str(token_id)


def _print_splits(manifest: Manifest) -> None:
    rows = [
        (
            name,
            format_count(split.documents),
            format_count(split.tokens),
            f"{split.tokens / max(split.documents, 1):,.1f}",
            f"{split.text_bytes / max(split.tokens, 1):.2f}",
            str(len(split.shards)),
            format_bytes(sum(item.size_bytes for shard in split.shards for item in shard.files)),
        )
        for name, split in manifest.splits.items()
    ]
    columns = ("split", "documents", "tokens", "tokens/document", "bytes/token", "shards", "size")
    print_table(table("", columns, rows, right=range(1, 7)))


def _print_shards(manifest: Manifest) -> None:
    rows = [
        (
            shard.file.name,
            format_count(shard.documents),
            format_count(shard.tokens),
            f"{_id(shard.min_id)}–{_id(shard.max_id)}",
            format_bytes(shard.file.size_bytes),
            shard.file.sha256[:16],
        )
        for split in manifest.splits.values()
        for shard in split.shards
    ]
    print_table(table("", ("shard", "documents", "tokens", "ids", "size", "sha256"), rows, right=[1, 2, 4]))
