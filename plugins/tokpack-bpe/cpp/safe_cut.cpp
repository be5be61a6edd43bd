#include "safe_cut.hpp"

#include <algorithm>

namespace tokpack::bpe {

namespace {

/// Class of the character at `at`; `other` if the text ends inside it.
Class class_at(Text text, std::size_t at) {
  if (at + character_length(text[at]) > text.size()) return Class::other;
  return class_of(decode(text.data() + at).point);
}

Class class_before(Text text, std::size_t at) {
  do --at;
  while (at > 0 && is_continuation(text[at]));
  return class_at(text, at);
}

bool is_word(Class kind) {
  return kind == Class::upper || kind == Class::lower || kind == Class::letter || kind == Class::number;
}

/// True if an added token that stands in `text` holds bytes on both sides of `cut`.
bool is_inside_token(Text text, std::size_t cut, const AddedTokens& added) {
  const std::size_t reach = std::min(cut, added.longest());
  for (std::size_t begin = cut - reach; begin < cut; ++begin) {
    if (added.reaches_over(text, begin, cut)) return true;
  }
  return false;
}

}  // namespace

std::size_t last_safe_cut(Text text, std::span<const AddedTokens* const> added) {
  std::size_t longest = 0;
  for (const AddedTokens* tokens : added) longest = std::max(longest, tokens->longest());
  for (std::size_t at = text.size(); at-- > 1;) {
    const bool space = text[at] == ' ';
    if ((!space && text[at] != '\n') || at + 1 == text.size()) continue;
    const std::size_t cut = space ? at : at + 1;
    if (cut + longest > text.size() || class_before(text, at) == Class::space) continue;
    if (!is_word(class_at(text, at + 1))) continue;
    const auto forbids = [&](const AddedTokens* tokens) { return is_inside_token(text, cut, *tokens); };
    if (std::none_of(added.begin(), added.end(), forbids)) return cut;
  }
  return 0;
}

}  // namespace tokpack::bpe
