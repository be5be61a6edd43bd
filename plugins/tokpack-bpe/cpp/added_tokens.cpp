#include "added_tokens.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "simd.hpp"
#include "vocabulary.hpp"

namespace tokpack::bpe {

namespace {

std::uint8_t first_byte(const AddedToken& token) { return static_cast<std::uint8_t>(token.bytes[0]); }

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (const AddedToken& token : tokens_) {
    if (token.bytes.empty()) throw VocabularyError("added token " + std::to_string(token.id) + " is empty");
    longest_ = std::max(longest_, token.bytes.size());
    (token.special ? has_special_ : has_ordinary_) = true;
  }
  std::sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) {
    if (first_byte(a) != first_byte(b)) return first_byte(a) < first_byte(b);
    return a.bytes.size() != b.bytes.size() ? a.bytes.size() > b.bytes.size() : a.bytes < b.bytes;
  });
  for (std::size_t i = 1; i < tokens_.size(); ++i) {
    if (tokens_[i].bytes == tokens_[i - 1].bytes) {
      throw VocabularyError("added token '" + tokens_[i].bytes + "' occurs twice");
    }
  }
  for (const AddedToken& token : tokens_) {
    if (of_first_[first_byte(token) + 1u]++ == 0) first_bytes_.push_back(first_byte(token));
  }
  for (std::size_t byte = 0; byte < 256; ++byte) of_first_[byte + 1] += of_first_[byte];
}

AddedTokens::Match AddedTokens::find(Text text, std::size_t from) const {
  for (std::size_t begin = next_candidate(text, from); begin < text.size(); begin = next_candidate(text, begin + 1)) {
    if (const AddedToken* const token = at(text, begin)) return {token, begin, begin + token->bytes.size()};
  }
  return {nullptr, text.size(), text.size()};
}

const AddedToken* AddedTokens::at(Text text, std::size_t begin) const {
  const std::size_t left = text.size() - begin;
  for (std::size_t i = of_first_[text[begin]], end = of_first_[text[begin] + 1u]; i < end; ++i) {
    const std::string& bytes = tokens_[i].bytes;
    if (bytes.size() <= left && std::memcmp(bytes.data(), text.data() + begin, bytes.size()) == 0) return &tokens_[i];
  }
  return nullptr;
}

/// The first place from `from` on that holds a byte with which a token begins.
std::size_t AddedTokens::next_candidate(Text text, std::size_t from) const {
  constexpr std::size_t kFew = 4;
  if (first_bytes_.empty()) return text.size();
  if (first_bytes_.size() <= kFew) {
    for (; from + 64 <= text.size(); from += 64) {
      const Block64 block = Block64::load(text.data() + from);
      std::uint64_t found = 0;
      for (const std::uint8_t byte : first_bytes_) found |= block.equal(byte);
      if (found != 0) return from + static_cast<std::size_t>(std::countr_zero(found));
    }
  }
  const auto begins = [this](std::uint8_t byte) { return of_first_[byte] != of_first_[byte + 1u]; };
  return static_cast<std::size_t>(std::find_if(text.begin() + static_cast<std::ptrdiff_t>(from), text.end(), begins) -
                                  text.begin());
}

}  // namespace tokpack::bpe
