"""The split patterns that the engine knows, and how the field writes them.

A pattern is recognised by its exact text: two regular expressions that look alike may split differently,
and the engine refuses what it has not been tested against.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = [
    "DEEPSEEK_SPLITS",
    "PATTERNS",
    "pattern_of_tiktoken",
    "pattern_of_tokenizers",
    "regex_for_tokenizers",
]

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD_END = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_WORD_BEGIN = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_CL100K_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|" + _SPACES

#: The regular expression of each pattern, as its reference library takes it. DeepSeek and StarCoder are
#: sequences of several splits and are recognised by `tokpack_bpe.tokenizer_json`.
PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
        "cl100k": (
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
            r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
        ),
        "llama3": _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _CL100K_TAIL,
        "qwen2": _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + _CL100K_TAIL,
        "o200k": (
            rf"[^\r\n\p{{L}}\p{{N}}]?{_WORD_BEGIN}*{_WORD_END}+{_CONTRACTIONS}?"
            rf"|[^\r\n\p{{L}}\p{{N}}]?{_WORD_BEGIN}+{_WORD_END}*{_CONTRACTIONS}?"
            rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
        ),
    }
)

#: How tokenizer.json files write them. The engine behind `tokenizers` reads ``{1,3}+`` as a repeated group
#: and not as possessive, so tiktoken's own spelling of cl100k means something else there and is missing here.
_HUGGING_FACE: Mapping[str, str] = MappingProxyType(
    {
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt2",
        PATTERNS["cl100k"].replace("{1,3}+", "{1,3}"): "cl100k",
        PATTERNS["llama3"]: "llama3",
        PATTERNS["qwen2"]: "qwen2",
        PATTERNS["o200k"]: "o200k",
    }
)

#: The three splits of DeepSeek-V3 and R1, one after the other.
DEEPSEEK_SPLITS = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
)

_TIKTOKEN: Mapping[str, str] = MappingProxyType(
    {regex: name for name, regex in PATTERNS.items()} | dict(_HUGGING_FACE)
)


def pattern_of_tiktoken(regex: str) -> str | None:
    """Return the pattern that ``regex`` is for tiktoken, or None if the engine does not know it."""
    return _TIKTOKEN.get(regex)


def pattern_of_tokenizers(regex: str) -> str | None:
    """Return the pattern that ``regex`` is for Hugging Face's tokenizers, or None."""
    return _HUGGING_FACE.get(regex)


def regex_for_tokenizers(pattern: str) -> str:
    """Return how a tokenizer.json writes ``pattern``, a name in `PATTERNS`."""
    return next(regex for regex, name in _HUGGING_FACE.items() if name == pattern)
