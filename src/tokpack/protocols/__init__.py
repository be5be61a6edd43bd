"""The contracts between tokpack and its plugins.

Plugins depend on these shapes and inherit from nothing. Whatever crosses a process boundary must pickle.
"""

from tokpack.protocols.executors import Executor
from tokpack.protocols.formats import FormatReader, FormatWriter, IndexWriter
from tokpack.protocols.samplers import Sampler, SamplerOptions, Span
from tokpack.protocols.sources import OnError, Problem, Slice, Source, SourceBatch, SourceOptions, TextSplit
from tokpack.protocols.store import TokenColumn, TokenStore
from tokpack.protocols.tokenizers import (
    ChatTokenizer,
    Engine,
    NativeEngine,
    SpanTokenizer,
    Special,
    TemplateTokenizer,
    TiktokenModel,
    Tokenizer,
    TokenizerJson,
    TokenizerOptions,
    TrainingOptions,
)
from tokpack.protocols.trackers import RunInfo, Tracker

__all__ = [
    "ChatTokenizer",
    "Engine",
    "Executor",
    "FormatReader",
    "FormatWriter",
    "IndexWriter",
    "NativeEngine",
    "OnError",
    "Problem",
    "RunInfo",
    "Sampler",
    "SamplerOptions",
    "Slice",
    "Source",
    "SourceBatch",
    "SourceOptions",
    "Span",
    "SpanTokenizer",
    "Special",
    "TemplateTokenizer",
    "TextSplit",
    "TiktokenModel",
    "TokenColumn",
    "TokenStore",
    "Tokenizer",
    "TokenizerJson",
    "TokenizerOptions",
    "Tracker",
    "TrainingOptions",
]
