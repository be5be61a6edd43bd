"""From one storage format to another without tokenizing again.

The new dataset holds the same documents, told by the same logical digest. It is read back before it gets its
name, so what stands under the name is proved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tokpack import __version__
from tokpack.dataset.digest import LogicalDigest
from tokpack.dataset.manifest import FormatInfo, Manifest, Split
from tokpack.dataset.publish import hash_file, publish, sync_directory
from tokpack.dataset.shards import ShardLayout, SplitWriter
from tokpack.dataset.store import Dataset, open_dataset
from tokpack.dtypes import DTYPES, narrow, parse_dtype
from tokpack.encoding.describe import write_manifest
from tokpack.encoding.texts import DocumentTexts
from tokpack.encoding.workspace import Workspace, open_workspace
from tokpack.errors import DamagedError, UsageError
from tokpack.plugins import Plugins, discover
from tokpack.specs import FormatSpec

__all__ = ["ConvertOptions", "Counter", "convert", "prove"]

_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertOptions:
    """What the new dataset is to be like."""

    format: str
    dtype: str | None = None  # None: as it is
    shard_bytes: int | None = None  # None: what the format prefers
    format_options: Mapping[str, str] = field(default_factory=dict)
    with_text: bool = False


def convert(
    path: str | Path,
    output: str | Path,
    options: ConvertOptions,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    plugins: Plugins | None = None,
) -> Dataset:
    """Write the dataset at ``path`` in another format to ``output``, prove it, and open it.

    ``progress(done, total)`` counts tokens; each is written once and read back once.

    Raises:
        DamagedError: the dataset does not hold what its manifest says.
        UsageError: the format cannot hold it, or ``output`` exists.
    """
    plugins = plugins or discover()
    source = open_dataset(path, plugins=plugins)
    spec = plugins.formats[options.format]
    layout = _layout(source, spec, options)
    count = Counter(2 * sum(split.tokens for split in source.manifest.splits.values()), progress)
    if Path(output).resolve() == source.path.resolve():
        raise UsageError(f"{output} is the dataset itself; name another --output")
    with open_workspace(Path(output), overwrite=overwrite) as workspace:
        workspace.require_new()
        folder = workspace.dataset
        splits = {name: _write_split(source, name, replace(layout, folder=folder), count) for name in source}
        manifest = _describe(source, workspace, splits, layout)
        prove(open_dataset(folder, plugins=plugins), manifest, count)
        workspace.commit(overwrite=overwrite)
    return open_dataset(output, plugins=plugins)


def _layout(source: Dataset, spec: FormatSpec, options: ConvertOptions) -> ShardLayout:
    manifest = source.manifest
    for name in options.format_options:
        if name not in spec.options:
            raise UsageError(
                f"format {spec.name!r} has no option {name!r}; it has: {', '.join(spec.options) or 'none'}"
            )
    if options.with_text and not spec.holds_text:
        raise UsageError(f"{spec.name} stores no text; --with-text is for jsonl, jsonl-gz and jsonl-zst")
    vocab_size = manifest.tokenizer.vocab_size
    shard_bytes = options.shard_bytes or spec.default_shard_bytes
    return ShardLayout(
        folder=source.path,
        format=spec,
        options=options.format_options,
        dtype=parse_dtype(options.dtype, vocab_size) if options.dtype else DTYPES[manifest.dtype],
        vocab_size=vocab_size,
        columns=tuple(manifest.columns),
        shard_bytes=shard_bytes,
        numbered=shard_bytes is not None,
        texts=_texts(source) if options.with_text else None,
    )


def _texts(source: Dataset) -> DocumentTexts:
    info, chosen = source.manifest.tokenizer, source.manifest.options
    return DocumentTexts(
        source.open_tokenizer(),
        bos_id=info.bos_id if chosen.get("bos") else None,
        eos_id=info.eos_id if chosen.get("eos") else None,
    )


class Counter:
    """Counts tokens for whoever watches."""

    def __init__(self, total: int, listener: Callable[[int, int], None] | None) -> None:
        self._total = total
        self._done = 0
        self._listener = listener or (lambda done, total: None)

    def add(self, tokens: int) -> None:
        """Count tokens that are done."""
        self._done += tokens
        self._listener(self._done, self._total)


def _write_split(dataset: Dataset, name: str, layout: ShardLayout, count: Counter) -> Split:
    store, source = dataset[name], dataset.manifest.splits[name]
    writer = SplitWriter(layout, name)
    try:
        for batch in store.batches():
            for _ in writer.write(replace(batch, tokens=narrow(batch.tokens, layout.dtype))):
                pass
            count.add(len(batch.tokens))
        writer.publish()
    except BaseException as error:
        writer.abandon(error)
        raise
    split = writer.summary()
    if split.digest != source.digest:
        raise DamagedError(
            f"the {name} split of {dataset.path} does not hold the documents that its manifest tells of; "
            f"run `tokpack verify {dataset.path}`"
        )
    return replace(split, text_bytes=source.text_bytes)


def _describe(
    source: Dataset, workspace: Workspace, splits: Mapping[str, Split], layout: ShardLayout
) -> Manifest:
    """Copy what stands beside the shards, and write the manifest last."""
    before, folder = source.manifest, workspace.dataset
    (folder / "tokenizer").mkdir()
    beside = [info.name for info in before.extra]
    for name in [*beside, *(f"tokenizer/{info.name}" for info in before.tokenizer.files)]:
        _copy(source, name, folder / name)
    sync_directory(folder / "tokenizer")
    manifest = replace(
        before,
        created_by=f"tokpack {__version__}",
        dtype=layout.dtype.name,
        format=FormatInfo(name=layout.format.name, options=dict(sorted(layout.options.items()))),
        splits=dict(splits),
    )
    write_manifest(folder, manifest)
    return manifest


def _copy(source: Dataset, name: str, target: Path) -> None:
    info = source.manifest.paths()[name]
    path = source.check_file(replace(info, name=name))
    with path.open("rb") as file, publish(target) as copy:
        while block := file.read(_COPY_BYTES):
            copy.write(block)
    if hash_file(target) != info.sha256:
        raise DamagedError(f"{path} is not what the manifest says; run `tokpack verify {source.path}`")


def prove(written: Dataset, manifest: Manifest, count: Counter) -> None:
    """Read every token back through the new format's reader and compare the logical digests."""
    for name, store in written.items():
        digest = LogicalDigest(manifest.tokenizer.vocab_size, manifest.columns)
        for batch in store.batches():
            digest.update(batch)
            count.add(len(batch.tokens))
        if digest.hexdigest() != store.fingerprint:
            raise DamagedError(
                f"the {manifest.format.name} files of {name}, read back, hold other documents than were "
                "written; nothing was kept; report this to whoever provides the format"
            )
