"""What ships with tokpack, announced through its own entry point like any plugin.

Strings only: nothing named here is imported until it is used.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokpack.hookspecs import hookimpl
from tokpack.specs import (
    CommandSpec,
    ExecutorSpec,
    FormatSpec,
    SamplerSpec,
    SourceSpec,
    TokenizerSpec,
    TrackerSpec,
)

TOKPACK_HOOK_VERSION = 1


@hookimpl
def tokpack_register_tokenizers() -> Iterable[TokenizerSpec]:
    """Announce the tokenizers that need no further package."""
    yield TokenizerSpec(
        "byte",
        "each byte is an id; nothing to download",
        open="tokpack.tokenizers.byte:open_tokenizer",
    )


@hookimpl
def tokpack_register_formats() -> Iterable[FormatSpec]:
    """Announce the formats that need no further package."""
    yield FormatSpec(
        "bin",
        "raw little-endian tokens, as nanoGPT reads them",
        suffix=".bin",
        writer="tokpack.formats.bin:BinWriter",
        reader="tokpack.formats.bin:BinReader",
        memory_mapped=True,
        holds_documents=False,
        appendable=True,
    )
    yield FormatSpec(
        "npy",
        "NumPy's own file, for np.load(mmap_mode='r')",
        suffix=".npy",
        writer="tokpack.formats.npy:NpyWriter",
        reader="tokpack.formats.npy:NpyReader",
        memory_mapped=True,
        holds_documents=False,
    )

    for name, suffix, writer, options in (
        ("jsonl", ".jsonl", "JsonlWriter", ()),
        ("jsonl-gz", ".jsonl.gz", "GzipWriter", ("level",)),
        ("jsonl-zst", ".jsonl.zst", "ZstdWriter", ("level",)),
    ):
        yield FormatSpec(
            name,
            f'one JSON object per document, {{"input_ids": […]}}, as {suffix}',
            suffix=suffix,
            writer=f"tokpack.formats.jsonl:{writer}",
            reader="tokpack.formats.jsonl:JsonlReader",
            default_shard_bytes=32 << 20,
            holds_text=True,
            columns=("attention_mask", "loss_mask", "segment_ids"),
            options=options,
        )


@hookimpl
def tokpack_register_sources() -> Iterable[SourceSpec]:
    """Announce the sources that need no further package."""
    yield SourceSpec(
        "text",
        "plain text: a file, its lines, or parts between separators",
        suffixes=(".txt", ".text", ".md", ".txt.gz", ".txt.zst"),
        open="tokpack.sources.text:open_source",
    )
    yield SourceSpec(
        "jsonl",
        "one JSON object per line",
        suffixes=(".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".jsonl.zst", ".ndjson.zst"),
        open="tokpack.sources.jsonl:open_source",
        records=True,
    )
    yield SourceSpec(
        "csv",
        "a text column of CSV or TSV with a header",
        suffixes=(".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zst", ".tsv.zst"),
        open="tokpack.sources.csv:open_source",
        records=True,
    )


@hookimpl
def tokpack_register_samplers() -> Iterable[SamplerSpec]:
    """Announce the rules that cut rows."""
    yield SamplerSpec(
        "random-block",
        "random windows of the stream; each seen once per epoch, or drawn as nanoGPT does",
        open="tokpack.samplers.random_block:open_sampler",
        options=("epoch",),
    )
    yield SamplerSpec(
        "sliding-window",
        "windows at a stride, over the stream or within documents",
        open="tokpack.samplers.sliding_window:open_sampler",
        options=("stride", "within", "shuffle", "drop_last"),
    )
    yield SamplerSpec(
        "packed",
        "whole documents side by side in a row, each a segment of its own",
        open="tokpack.samplers.packed:open_sampler",
        options=("strategy", "long_documents", "empty_documents", "shuffle"),
    )


@hookimpl
def tokpack_register_executors() -> Iterable[ExecutorSpec]:
    """Announce ways to run units of work."""
    yield ExecutorSpec(
        "serial",
        "one unit after the other, in this process",
        open="tokpack.executors.serial:SerialExecutor",
    )
    yield ExecutorSpec(
        "processes",
        "worker processes on this machine",
        open="tokpack.executors.processes:ProcessExecutor",
    )


@hookimpl
def tokpack_register_trackers() -> Iterable[TrackerSpec]:
    """Announce the places where metrics go."""
    yield TrackerSpec("console", "a live table, or lines", open="tokpack.cli.live:ConsoleTracker")
    yield TrackerSpec(
        "jsonl", "metrics.jsonl in the run folder", open="tokpack.train.trackers.files:JsonlTracker"
    )
    yield TrackerSpec(
        "csv", "metrics.csv and samples.txt in the run folder", open="tokpack.train.trackers.files:CsvTracker"
    )
    yield TrackerSpec(
        "tensorboard", "TensorBoard events", open="tokpack.train.trackers.tensorboard:TensorBoardTracker"
    )
    yield TrackerSpec("wandb", "Weights & Biases", open="tokpack.train.trackers.wandb:WandbTracker")


@hookimpl
def tokpack_register_commands() -> Iterable[CommandSpec]:
    """Announce the commands, in the order of the work they do."""
    prepare, look = "Prepare data", "Look at data"
    yield CommandSpec("encode", "turn text into a dataset", open="tokpack.cli.encode:encode", group=prepare)
    yield CommandSpec(
        "train-tokenizer",
        "learn a vocabulary from text",
        open="tokpack.cli.train_tokenizer:train",
        group=prepare,
    )
    yield CommandSpec(
        "pack",
        "put whole documents into rows for other trainers",
        open="tokpack.cli.pack:pack",
        group=prepare,
    )
    yield CommandSpec(
        "convert", "write a dataset in another format", open="tokpack.cli.convert:convert", group=prepare
    )
    yield CommandSpec(
        "import",
        "make a dataset of other tools' token files",
        open="tokpack.cli.import_tokens:import_tokens",
        group=prepare,
    )
    yield CommandSpec("copy", "upload or download a dataset", open="tokpack.cli.copy:copy", group=prepare)
    yield CommandSpec("verify", "prove that a dataset is whole", open="tokpack.cli.verify:verify", group=look)
    yield CommandSpec("info", "show what a dataset holds", open="tokpack.cli.info:info", group=look)
    yield CommandSpec(
        "explain", "show where a training row came from", open="tokpack.cli.explain:explain", group=look
    )
    yield CommandSpec("decode", "show tokens as text", open="tokpack.cli.decode:decode", group=look)
    use = "Train and use a model"
    yield CommandSpec("train", "train a model on a dataset", open="tokpack.cli.train:train", group=use)
    yield CommandSpec("generate", "write text with a model", open="tokpack.cli.generate:generate", group=use)
    yield CommandSpec("plot", "draw loss and speed of runs", open="tokpack.cli.plot:plot", group=use)
    yield CommandSpec("export", "hand a model to other tools", open="tokpack.cli.export:export", group=use)
    yield CommandSpec(
        "plugins", "list what is installed", open="tokpack.cli.plugins:plugins", group="Installation"
    )
