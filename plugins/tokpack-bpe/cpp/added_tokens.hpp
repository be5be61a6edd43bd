// Tokens that are found in the text itself, before it is split: special tokens and other added ones.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "unicode.hpp"

namespace tokpack::bpe {

struct AddedToken {
  std::string bytes;
  std::uint32_t id;
  bool special;  // found only when the caller asks for special tokens to be parsed
};

/// Finds added tokens: the leftmost, and of those that begin there the longest. Immutable.
class AddedTokens {
 public:
  struct Match {
    const AddedToken* token = nullptr;  // null: there is none
    std::size_t begin = 0;              // or the end of the text
    std::size_t end = 0;
  };

  /// Throws VocabularyError if a token is empty or occurs twice.
  explicit AddedTokens(std::vector<AddedToken> tokens);

  /// The first match that begins at `from` or later.
  Match find(Text text, std::size_t from) const;

  /// True if some token stands at `begin` and ends after `place`.
  bool reaches_over(Text text, std::size_t begin, std::size_t place) const {
    const AddedToken* const token = at(text, begin);
    return token != nullptr && begin + token->bytes.size() > place;
  }

  bool empty() const { return tokens_.empty(); }
  bool has_special() const { return has_special_; }
  bool has_ordinary() const { return has_ordinary_; }
  std::size_t longest() const { return longest_; }

 private:
  const AddedToken* at(Text text, std::size_t begin) const;
  std::size_t next_candidate(Text text, std::size_t from) const;

  std::vector<AddedToken> tokens_;               // by first byte, the longest first
  std::array<std::uint32_t, 257> of_first_{};    // tokens_[of_first_[b]] is the first that begins with byte b
  std::vector<std::uint8_t> first_bytes_;        // the few bytes that tokens begin with
  std::size_t longest_ = 0;
  bool has_special_ = false;
  bool has_ordinary_ = false;
};

}  // namespace tokpack::bpe
