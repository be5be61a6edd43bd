"""What a ``tokenizer.json`` says, checked before the library sees it; its identity and special ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tokpack.errors import DamagedError

__all__ = ["SpecialIds", "canonical_digest", "check_definition", "find_special_ids"]

#: Above any vocabulary in use; an id beyond would only make tables large.
MAX_VOCAB_SIZE = 1 << 24
#: A normalizer that writes more than this for one match is there to fill memory.
MAX_REPLACEMENT = 64

#: Names by which a file without a tokenizer_config.json is understood, most telling first.
WELL_KNOWN = {
    "bos": ("<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>", "[CLS]"),
    "eos": ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<|eos|>", "[EOS]", "[SEP]"),
    "pad": ("<pad>", "<|pad|>", "<|padding|>", "[PAD]", "<|finetune_right_pad_id|>"),
}


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """The special tokens by name, and which of them begin, end and fill."""

    tokens: Mapping[str, int]
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None


def check_definition(definition: Mapping[str, Any], origin: str) -> None:
    """Refuse a definition that would crash the library, fill memory, or that is no tokenizer at all.

    Raises:
        DamagedError: names ``origin`` and what is wrong.
    """
    model = definition.get("model")
    if not isinstance(model, dict) or "vocab" not in model:
        raise DamagedError(f"{origin} is no tokenizer.json: it has no model with a vocab; fetch it again")
    added = definition.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise DamagedError(f"added_tokens of {origin} is not a list of objects; fetch it again")
    ids = [token.get("id") for token in added]
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        ids.extend(vocab.values())
    elif not isinstance(vocab, list):
        raise DamagedError(f"the vocab of {origin} is neither a list nor an object; fetch it again")
    for token_id in ids:
        if type(token_id) is not int or not 0 <= token_id < MAX_VOCAB_SIZE:
            raise DamagedError(
                f"{origin} has the token id {token_id!r}; ids are whole numbers below {MAX_VOCAB_SIZE:,}"
            )
    for token in added:
        if not isinstance(token.get("content"), str) or not token["content"]:
            raise DamagedError(f"the added token {token.get('id')} of {origin} has no text; give it one")
    for step in _steps(definition.get("normalizer")):
        written = step.get("content") or step.get("prepend") or ""
        if isinstance(written, str) and len(written) > MAX_REPLACEMENT:
            raise DamagedError(
                f"the normalizer of {origin} writes {len(written):,} characters for one match, more than "
                f"{MAX_REPLACEMENT}; it would fill memory, so it is not used"
            )


def canonical_digest(definition: Mapping[str, Any], special: SpecialIds) -> str:
    """Return SHA-256 (hex) of what decides ids and bytes, whatever the file's layout.

    Truncation, padding, dropout and what only concerns offsets are left out: they are switched off here.
    Merges count the same as ``"a b"`` and as ``["a", "b"]``, an absent setting the same as null.
    """
    model = {**definition["model"], "dropout": None}
    merges = model.get("merges")
    if isinstance(merges, list):
        model["merges"] = [tuple(pair.split(" ", 1)) if isinstance(pair, str) else pair for pair in merges]
    added = sorted(definition.get("added_tokens") or [], key=lambda token: int(token["id"]))
    content = {
        "model": _without_nulls(model),
        "added_tokens": added,
        "normalizer": definition.get("normalizer"),
        "pre_tokenizer": definition.get("pre_tokenizer"),
        "post_processor": definition.get("post_processor"),
        "decoder": definition.get("decoder"),
        "special": [special.bos_id, special.eos_id, special.pad_id, sorted(special.tokens.items())],
    }
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()


def find_special_ids(
    tokens: Mapping[str, int], vocab: Mapping[str, int], settings: Mapping[str, Any]
) -> SpecialIds:
    """Find BOS, EOS and PAD: as the settings name them, else by their well-known names.

    ``tokens`` are the special tokens, ``vocab`` all tokens with their ids.
    """

    def find(role: str) -> int | None:
        named = settings.get(f"{role}_token", "")
        if isinstance(named, dict):
            named = named.get("content", "")
        if named is None:
            return None  # said on purpose: there is none
        if isinstance(named, str) and named in vocab:
            return vocab[named]
        return next((tokens[name] for name in WELL_KNOWN[role] if name in tokens), None)

    return SpecialIds(tokens, find("bos"), find("eos"), find("pad"))


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    # A definition nests at most as deep as its JSON, which the decoder limits.
    if not isinstance(part, dict):
        return
    yield part
    for name in ("normalizers", "pretokenizers", "decoders", "processors"):
        inner = part.get(name)
        for step in inner if isinstance(inner, list) else ():
            yield from _steps(step)


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != ""}
