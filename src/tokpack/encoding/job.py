"""What an encode needs, opened and decided before any unit runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tokpack import __version__
from tokpack.chat.options import open_renderer, resolve_template
from tokpack.chat.render import ChatRenderer
from tokpack.dtypes import parse_dtype, token_dtype
from tokpack.encoding.options import EncodeOptions
from tokpack.encoding.plan import Plan, make_plan
from tokpack.encoding.unit import UnitWork
from tokpack.errors import UsageError
from tokpack.plugins import Plugins
from tokpack.protocols import Source, TemplateTokenizer, Tokenizer, TokenizerOptions
from tokpack.sources.inputs import find_inputs
from tokpack.specs import FormatSpec, load
from tokpack.tokenizers.opening import open_tokenizer
from tokpack.tokenizers.probe import TokenizerIdentity, identify

__all__ = ["Job", "open_chat", "prepare", "template_of"]


@dataclass(frozen=True, slots=True)
class Job:
    """Everything opened and decided, before any unit runs."""

    options: EncodeOptions
    plan: Plan
    tokenizer: Tokenizer
    identity: TokenizerIdentity
    format: FormatSpec
    sources: Mapping[str, Source]
    dtype: np.dtype[Any]
    bos_id: int | None
    eos_id: int | None
    template: tuple[Sequence[int], Sequence[int]]
    renderer: ChatRenderer | None

    def record(self) -> dict[str, Any]:
        """Return what must be equal for unfinished work to be continued."""
        return {
            "tokpack": __version__,
            "tokenizer": {"reference": self.options.tokenizer, "fingerprint": self.identity.fingerprint},
            "options": msgspec.to_builtins(self.options),
            "dtype": self.dtype.name,
            "inputs": {
                f"{item.split}:{item.name}": {"size": item.size_bytes, "kind": item.kind}
                for item in self.plan.inputs
            },
        }

    def work(self, folder: Path) -> UnitWork:
        """Return what a worker calls with each unit."""
        return UnitWork(
            folder=folder,
            tokenizer=self.tokenizer,
            sources=self.sources,
            names=tuple(item.name for item in self.plan.inputs),
            options=self.options,
            dtype=self.dtype,
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            template=self.template,
            renderer=self.renderer,
        )


def prepare(
    inputs: Sequence[str],
    options: EncodeOptions,
    *,
    validation: Sequence[str] = (),
    splits: Mapping[str, Sequence[str]] | None = None,
    plugins: Plugins,
) -> Job:
    """Open the tokenizer and the sources, and plan the units. Touches no output.

    Raises:
        TokpackError: whatever is wrong with the request, before any work is done.
    """
    spec = plugins.formats[options.format]
    _check_format_options(spec, options.format_options)
    if options.with_text and not spec.holds_text:
        raise UsageError(f"{spec.name} stores no text; --with-text is for jsonl, jsonl-gz and jsonl-zst")
    tokenizer = open_tokenizer(
        options.tokenizer, options=TokenizerOptions(engine=options.engine), plugins=plugins
    )
    options, renderer = open_chat(options, tokenizer)
    files = find_inputs(
        inputs,
        validation=validation,
        splits=splits,
        input_format=options.input_format,
        sources=plugins.sources,
    )
    if not any(item.size_bytes for item in files):
        raise UsageError(f"the input is empty: {', '.join(item.path for item in files[:3])}")
    _check_records({item.kind for item in files}, options, plugins)
    sources = {kind: load(plugins.sources[kind].open)(options.source) for kind in {f.kind for f in files}}
    bos_id = _boundary(options.bos or False, tokenizer.bos_id, "BOS", "--no-bos")
    eos = options.eos if options.eos is not None else _ends_documents(options, tokenizer)
    eos_id = _boundary(eos, tokenizer.eos_id, "EOS", "--no-eos")
    dtype = (
        parse_dtype(options.dtype, tokenizer.vocab_size)
        if options.dtype
        else token_dtype(tokenizer.vocab_size)
    )
    return Job(
        options=replace(
            options, bos=bos_id is not None, eos=eos_id is not None, pad_id=_pad_id(options, tokenizer)
        ),
        plan=make_plan(files, sources, options),
        tokenizer=tokenizer,
        identity=identify(tokenizer),
        format=spec,
        sources=sources,
        dtype=dtype,
        bos_id=bos_id,
        eos_id=eos_id,
        template=template_of(options, tokenizer),
        renderer=renderer,
    )


def open_chat(options: EncodeOptions, tokenizer: Tokenizer) -> tuple[EncodeOptions, ChatRenderer | None]:
    """Return the renderer for chat data, and options that name its template and its fields.

    Raises:
        UsageError: there is no chat template.
    """
    if options.chat is None:
        return options, None
    chat = replace(options.chat, template=resolve_template(options.chat, tokenizer, options.tokenizer))
    source = options.source
    renderer = open_renderer(chat, tokenizer, special=options.special, on_error=source.on_error)
    return replace(options, chat=chat, source=replace(source, record_fields=renderer.fields)), renderer


def template_of(options: EncodeOptions, tokenizer: Tokenizer) -> tuple[Sequence[int], Sequence[int]]:
    """Return what the tokenizer itself puts around a document, where that is asked for.

    Raises:
        UsageError: it is asked for, and the tokenizer has nothing of the kind.
    """
    if not options.add_special_tokens:
        return (), ()
    if not isinstance(tokenizer, TemplateTokenizer):
        raise UsageError(
            f"{options.tokenizer} puts nothing around documents itself; leave --add-special-tokens out and "
            "use --bos and --eos"
        )
    return tokenizer.template


def _ends_documents(options: EncodeOptions, tokenizer: Tokenizer) -> bool:
    """Whether EOS follows a document unasked: not where a template says how documents end."""
    conversations = options.chat is not None and options.chat.messages_field is not None
    return tokenizer.eos_id is not None and not conversations and not options.add_special_tokens


def _pad_id(options: EncodeOptions, tokenizer: Tokenizer) -> int | None:
    if options.padding == "none":
        return options.pad_id
    pad_id = options.pad_id if options.pad_id is not None else tokenizer.pad_id
    if pad_id is None or not 0 <= pad_id < tokenizer.vocab_size:
        given = "no PAD token" if pad_id is None else f"no id {pad_id}"
        raise UsageError(f"{options.tokenizer} has {given}; name the id to fill with: --pad-id")
    return pad_id


def _check_records(kinds: Iterable[str], options: EncodeOptions, plugins: Plugins) -> None:
    for kind in sorted(kinds):
        if options.chat is not None and not plugins.sources[kind].records:
            able = [spec.name for spec in plugins.sources.values() if spec.records]
            raise UsageError(
                f"{kind} input has no fields for conversations or pairs; give one of: {', '.join(able)}"
            )


def _check_format_options(spec: FormatSpec, options: Mapping[str, str]) -> None:
    for name in options:
        if name not in spec.options:
            raise UsageError(
                f"format {spec.name!r} has no option {name!r}; it has: {', '.join(spec.options) or 'none'}"
            )


def _boundary(wanted: bool, token_id: int | None, name: str, remedy: str) -> int | None:
    if wanted and token_id is None:
        raise UsageError(f"the tokenizer has no {name} token; leave it out with {remedy}")
    return token_id if wanted else None
