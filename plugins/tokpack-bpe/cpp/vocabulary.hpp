// A byte-level BPE vocabulary: tokens, their ids, and which neighbours merge in which order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cuts.hpp"
#include "merge.hpp"
#include "merge_table.hpp"

namespace tokpack::bpe {

/// What is wrong with a vocabulary; the message names the token or merge.
class VocabularyError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Token {
  std::string_view bytes;
  std::uint32_t id;
};

/// The ids of two tokens that merge into the token of their joined bytes.
using MergeRule = std::pair<std::uint32_t, std::uint32_t>;

/// Ids fit three bytes, so that five of them fit a cache entry.
inline constexpr std::uint32_t kMaxId = (1u << 24) - 1;

/// Immutable once built, so threads may share one.
class Vocabulary {
 public:
  /// What happens to a byte that is no token.
  enum class MissingBytes { refuse, drop };

  /// tiktoken's rule: any two neighbours merge whose joined bytes are a token, the lowest id first; a
  /// pre-token that is a token is not merged at all. Throws VocabularyError.
  static Vocabulary from_ranks(std::span<const Token> tokens);

  /// Hugging Face's rule: the listed pairs merge, the first in the list first. With `whole_words`, its
  /// `ignore_merges`, a pre-token that is a token is not merged at all. Throws VocabularyError.
  static Vocabulary from_merges(std::span<const Token> tokens, std::span<const MergeRule> merges,
                                bool whole_words, MissingBytes missing);

  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  const MergeTable& merges() const { return merges_; }
  const CutTable& cuts() const { return cuts_; }

  /// Ids by symbol.
  const std::uint32_t* ids() const { return ids_.data(); }

  /// Id of a pre-token that is to be taken as it is though merging would not lead to it, or `kNone`.
  std::uint32_t unmerged(Text word) const {
    if (unmerged_.empty()) return kNone;
    return unmerged_id({reinterpret_cast<const char*>(word.data()), word.size()});
  }

  /// Every rule as the ids of left, right and result, in the order in which the rules apply.
  std::vector<std::array<std::uint32_t, 3>> rules() const;

  /// The words for which `unmerged` has an answer.
  const std::vector<std::string>& unmerged_words() const { return unmerged_words_; }

  /// True if some byte is no token; such bytes are taken out of a word before it is merged.
  bool drops_bytes() const { return drops_bytes_; }
  bool has_byte(std::uint8_t byte) const { return ids_[byte] != kNone; }

 private:
  Vocabulary() : ids_(256, kNone) {}
  void set_bytes(std::span<const Token> tokens, MissingBytes missing);
  void check_symbol_count() const;
  std::vector<std::size_t> merge_canonically(std::span<const Token> ranked);
  void merge_every_split(std::span<const Token> ranked);
  void note_unmerged(std::span<const Token> tokens);
  std::uint32_t unmerged_id(std::string_view word) const;

  MergeTable merges_;
  std::vector<std::uint32_t> ids_;
  std::unordered_map<std::string_view, std::uint32_t> unmerged_;
  std::vector<std::string> unmerged_words_;  // what the keys of unmerged_ point to
  CutTable cuts_;
  bool drops_bytes_ = false;
};

}  // namespace tokpack::bpe
