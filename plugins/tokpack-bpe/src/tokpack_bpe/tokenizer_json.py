"""Hugging Face's tokenizer.json, as far as it is a byte-level BPE that the engine reproduces exactly.

Everything else is refused by name: the reference library serves it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from tokpack.errors import DamagedError, UnsupportedError
from tokpack_bpe.definition import AddedToken, Definition, SpecialIds
from tokpack_bpe.json_file import decode_object
from tokpack_bpe.merges_file import merge_ids, split_vocab
from tokpack_bpe.patterns import DEEPSEEK_SPLITS, pattern_of_tokenizers

__all__ = ["SETTINGS", "TOKENIZER_JSON", "define_tokenizer_json"]

TOKENIZER_JSON, SETTINGS = "tokenizer.json", "tokenizer_config.json"


def define_tokenizer_json(content: bytes, *, origin: str, settings: bytes | None = None) -> Definition:
    """Define the tokenizer that ``content`` holds; ``settings`` is the tokenizer_config.json beside it.

    Of the settings only the names of BOS, EOS and PAD are used: a file gives the ids of that file.

    Truncation, padding and the post-processor are left to the caller, as `Tokenizer.encode_batch` wants it.

    Raises:
        UnsupportedError: the engine cannot reproduce a part of it exactly; names the part.
        DamagedError: it is no tokenizer.json, or contradicts itself.
    """
    whole = decode_object(content, origin)
    model = whole.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise DamagedError(f"{origin} has no model with a vocabulary; is it a tokenizer.json?")
    _check_model(model, origin)
    vocab = model["vocab"]
    tokens, others = split_vocab(vocab, origin)
    nfc = _is_nfc(whole.get("normalizer"), origin)
    added = tuple(_added_tokens(whole.get("added_tokens") or [], vocab, origin))
    if not nfc and all(token.normalized for token in added):
        added = tuple(token._replace(normalized=False) for token in added)  # the same, said simply
    all_bytes = all(bytes([byte]) in tokens for byte in range(256))
    if not all_bytes and (model.get("unk_token") is not None or model.get("byte_fallback")):
        _refuse(origin, "an unknown token or byte fallback with a vocabulary that lacks single bytes")
    if not _is_type(whole.get("decoder"), "ByteLevel"):
        _refuse(origin, f"the decoder {_name(whole.get('decoder'))}")
    definition = Definition(
        origin=origin,
        pattern=_pattern(whole.get("pre_tokenizer"), origin),
        tokens=tokens,
        merges=merge_ids(_merges(model.get("merges"), origin), vocab, origin),
        added=added,
        files={TOKENIZER_JSON: content} | ({} if settings is None else {SETTINGS: settings}),
        whole_words=bool(model.get("ignore_merges")),
        drop_missing=not all_bytes,
        nfc=nfc,
        special_ids=SpecialIds.find(
            vocab | {token.content: token.token_id for token in added},
            decode_object(settings or b"{}", f"{SETTINGS} beside {origin}"),
        ),
        other_tokens=others,
    )
    definition.check()
    return definition


def _refuse(origin: str, what: str) -> NoReturn:
    raise UnsupportedError(f"{origin} has {what}, which this engine does not reproduce; open it with hf:")


def _name(step: Any) -> str:
    return repr(step.get("type", step)) if isinstance(step, dict) else repr(step)


def _is_type(step: Any, name: str) -> bool:
    return isinstance(step, dict) and step.get("type") == name


def _check_model(model: Mapping[str, Any], origin: str) -> None:
    if model.get("type", "BPE") != "BPE" or not isinstance(model["vocab"], dict):
        _refuse(origin, f"a model of type {model.get('type')!r}")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            _refuse(origin, f"{option} {model[option]!r}")


def _merges(merges: Any, origin: str) -> Iterator[tuple[str, str]]:
    """Yield merges, which newer files write as pairs and older ones with a space between."""
    if not isinstance(merges, list):
        raise DamagedError(f"{origin} has no list of merges; is the file whole?")
    for number, merge in enumerate(merges, start=1):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        match parts:
            case [str(left), str(right)]:
                yield left, right
            case _:
                raise DamagedError(f"merge {number:,} of {origin} is {merge!r}, not two tokens")


def _is_nfc(normalizer: Any, origin: str) -> bool:
    if _is_type(normalizer, "Sequence"):
        steps = normalizer.get("normalizers") or [None]
        if len(steps) == 1:
            return _is_nfc(steps[0], origin)
    if normalizer is not None and not _is_type(normalizer, "NFC"):
        _refuse(origin, f"the normalizer {_name(normalizer)}")
    return normalizer is not None


def _added_tokens(entries: Any, vocab: Mapping[str, int], origin: str) -> Iterator[AddedToken]:
    """Yield added tokens, with the ids that the library gives them when it reads the file."""
    next_id = len(vocab)
    seen: set[str] = set()
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            raise DamagedError(f"{origin} has the added token {entry!r}, which has no content")
        content, token_id = entry["content"], entry.get("id")
        if content in seen:
            raise DamagedError(f"{origin} adds the token {content!r} twice; remove one")
        seen.add(content)
        for option in ("single_word", "lstrip", "rstrip"):
            if entry.get(option):
                _refuse(origin, f"the added token {content!r} with {option}")
        expected = vocab.get(content, next_id)
        next_id = max(next_id, expected + 1)
        if token_id != expected:
            _refuse(
                origin,
                f"the added token {content!r} with id {token_id!r} where the library gives it {expected}",
            )
        special = bool(entry.get("special"))
        yield AddedToken(content, expected, special, bool(entry.get("normalized", not special)))


def _pattern(step: Any, origin: str) -> str:
    """Return the name of the pattern that a pre-tokenizer comes to."""
    steps = step.get("pretokenizers", []) if _is_type(step, "Sequence") else [step]
    *splits, last = steps or [None]
    if not _is_type(last, "ByteLevel"):
        _refuse(origin, f"the pre-tokenizer {_name(step)} without ByteLevel at its end")
    if last.get("add_prefix_space", True):
        _refuse(origin, "add_prefix_space")
    by_regex = last.get("use_regex", True)
    regexes = [_split_regex(split, alone=len(splits) == 1) for split in splits]
    pattern: str | None = None
    if by_regex and not splits:
        pattern = "gpt2"
    elif (
        by_regex and len(splits) == 1 and _is_type(splits[0], "Digits") and splits[0].get("individual_digits")
    ):
        pattern = "starcoder"
    elif not by_regex and len(splits) == 1 and regexes[0] is not None:
        pattern = pattern_of_tokenizers(regexes[0])
    elif not by_regex and tuple(regexes) == DEEPSEEK_SPLITS:
        pattern = "deepseek"
    if pattern is None:
        shown = [regex or _name(split) for regex, split in zip(regexes, splits, strict=True)]
        _refuse(origin, f"a pre-tokenizer that splits by {', then '.join(shown)}")
    return pattern


def _split_regex(step: Any, *, alone: bool) -> str | None:
    """Return the regular expression of a step that makes every match, and what lies between, a piece.

    The patterns that stand ``alone`` leave nothing between matches, so removing that is the same for them.
    """
    if not _is_type(step, "Split") or not isinstance(step.get("pattern"), dict):
        return None
    how = (step.get("behavior"), bool(step.get("invert")))
    if how != ("Isolated", False) and not (alone and how == ("Removed", True)):
        return None
    regex = step["pattern"].get("Regex")
    return regex if isinstance(regex, str) else None
