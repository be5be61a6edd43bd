#include "pretokenizer.hpp"

#include <algorithm>
#include <array>

namespace tokpack::bpe {

namespace {

constexpr std::array<std::string_view, 7> kNames = {"gpt2",  "cl100k",    "llama3",  "qwen2",
                                                    "o200k", "starcoder", "deepseek"};

}  // namespace

std::optional<Pattern> pattern_named(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<Pattern>(found - kNames.begin());
}

std::string_view name_of(Pattern pattern) { return kNames[static_cast<std::size_t>(pattern)]; }

void mark_pretokens(Pattern pattern, Text text, std::uint64_t* marks) {
  std::fill_n(marks, mark_words(text.size()), 0);
  for (std::size_t at = 0; at < text.size(); at = pretoken_end(pattern, text, at)) {
    marks[at / 64] |= std::uint64_t{1} << (at % 64);
  }
}

}  // namespace tokpack::bpe
