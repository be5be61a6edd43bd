"""Letting another plugin's native engine encode for a reference library, once it has proved itself.

A backend describes its tokenizer as a `TiktokenModel` or `TokenizerJson` and asks here. No plugin imports
another: engines are found by `TokenizerSpec.accelerate` among the installed plugins.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from tokpack.batches import TextBatch
from tokpack.errors import MismatchError, UnsupportedError, UsageError
from tokpack.plugins import discover
from tokpack.protocols import Engine, NativeEngine, Special, TiktokenModel, Tokenizer, TokenizerJson
from tokpack.specs import TokenizerSpec, load

__all__ = ["PROBE_TEXTS", "native_engine"]

_log = logging.getLogger(__name__)

#: Texts on which engines have been seen to differ, and ordinary ones.
PROBE_TEXTS: tuple[str, ...] = (
    "",
    " ",
    "The quick brown fox jumps over the lazy dog, doesn't it? I'LL SAY SO'S HE.",
    "it's we're I've I'm you'll he'd IT'S WE'RE I'ſ ’s ''s 's's",
    "def f(x):\n    return {'a': [1, 2.5, 1e-9, 0xFF]}\t# 12345678901\r\n\r\n",
    "a  b   c \n d\n\n e \t\n\n\n  f  ",
    "\n \n  \n",
    "x=1;y+=2;//z/\n/*…*/\r\n/",
    "naïve Ünïcödé ǅ ʰ ſtop ﬁne Straße İstanbul CamelCaseHTTPServer iPhone's XMLHttp'S",
    "e\u0301 \u0301e \u0338= A\u030a\u0323 \u1100\u1161\u11a8 \uac01 한국어 각",
    "日本語のテキスト、漢字とカタカナ。中文分词测试，全角１２３４５ＡＢＣ",
    "हिन्दी में पाठ ภาษาไทยไม่มีช่องว่าง العربيّة עברית",
    "😀👍🏽👨‍👩‍👧‍👦🇩🇪 ☃️ ©®™ €£¥ ½²³ Ⅻ ٣٤٥٦ १२३४",
    "\u00a0\u2003\u3000 \u0085\u2028\u2029\u200b\ufeff\x1c\x1f\x00\x07\x7f\ue000\U000e0001\ufffd",
    "<|endoftext|> <|endofprompt|><|im_start|>user<|im_end|> <s></s> [INST] <think>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 3,
    "------------------------------====****####________      \t\t\t\t        ",
)


def native_engine(
    model: TiktokenModel | TokenizerJson, *, reference: Tokenizer, engine: Engine
) -> NativeEngine | None:
    """Return an installed engine that gives the ids of ``reference``, or None if the reference is to encode.

    ``auto`` takes an engine that supports ``model`` and has proved equal ids on `PROBE_TEXTS`, in silence
    when there is none; ``native`` insists on one.

    Raises:
        UsageError: ``engine`` is ``native`` and no installed engine supports ``model``; gives the reasons.
        MismatchError: ``engine`` is ``native`` and the engine's ids are not the reference's.
    """
    if engine == "reference":
        return None
    reasons = []
    for backend, target in _accelerators(discover().tokenizers).items():
        try:
            candidate: NativeEngine = load(target)(model)
            _prove(candidate, reference)
        except UnsupportedError as error:
            reasons.append(f"{backend}: {error}")
        except MismatchError as error:
            if engine == "native":
                raise
            _log.warning("%s; %s encodes instead", error, reference.engine)
            return None
        else:
            return candidate
    if engine == "native":
        why = "; ".join(reasons) or "none is installed; try: pip install tokpack-bpe"
        raise UsageError(f"no native engine for this tokenizer ({why}); use --engine reference")
    return None


def _accelerators(specs: Mapping[str, TokenizerSpec]) -> dict[str, str]:
    return {name: spec.accelerate for name, spec in specs.items() if spec.accelerate is not None}


def _prove(engine: NativeEngine, reference: Tokenizer) -> None:
    """Compare both on the probe texts, with special tokens as text and parsed."""
    special_tokens = "".join(reference.special_tokens)
    texts = TextBatch.from_texts([*PROBE_TEXTS, special_tokens, f"a {special_tokens} b"])
    policies: tuple[Special, ...] = ("text", "parse")
    for policy in policies:
        ours = engine.encode_batch(texts, special=policy)
        theirs = reference.encode_batch(texts, special=policy)
        if not (np.array_equal(ours.offsets, theirs.offsets) and np.array_equal(ours.tokens, theirs.tokens)):
            raise MismatchError(
                f"{engine.name} does not give the ids of {reference.engine} on the probe texts "
                f"(special={policy!r}); use --engine reference and report the tokenizer"
            )
