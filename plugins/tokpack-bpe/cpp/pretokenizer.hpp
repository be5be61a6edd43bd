// Splitting text into pre-tokens, the pieces inside which BPE merges.
//
// Every pattern below is a regular expression in the field; here each is a small hand-written scanner that
// gives the same pieces. Scanning has no memory: where one pre-token ends, the next begins, whatever came
// before. Texts are valid UTF-8; all functions are pure and thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "unicode.hpp"

namespace tokpack::bpe {

enum class Pattern : std::uint8_t {
  gpt2,       // GPT-2, r50k, p50k, GPT-NeoX
  cl100k,     // as tiktoken writes it: white space at the end of the text is one piece
  llama3,     // cl100k as Hugging Face writes it: new lines go first, even at the end
  qwen2,      // llama3 with every digit on its own
  o200k,      // splits at changes from lower to upper case
  starcoder,  // every digit on its own, then gpt2 on what is between
  deepseek,   // DeepSeek-V3 and R1: numbers, CJK runs, then words
};

/// The pattern called `name` ("gpt2", "cl100k", …), if there is one.
std::optional<Pattern> pattern_named(std::string_view name);

/// Name of `pattern`, the inverse of `pattern_named`.
std::string_view name_of(Pattern pattern);

/// Where the pre-token that begins at `start` ends, one character at a time. `start < text.size()`.
std::size_t pretoken_end(Pattern pattern, Text text, std::size_t start);

/// Words of 64 bits that `mark_pretokens` writes for a text of `size` bytes.
constexpr std::size_t mark_words(std::size_t size) { return (size + 63) / 64; }

/// Set bit `i % 64` of `marks[i / 64]` where a pre-token begins at byte `i`, and clear all others.
/// Writes `mark_words(text.size())` words. The fast way to split a text; reads no byte outside it.
void mark_pretokens(Pattern pattern, Text text, std::uint64_t* marks);

}  // namespace tokpack::bpe
