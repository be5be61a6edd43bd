// From text to ids, for one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "merge.hpp"
#include "pretokenizer.hpp"
#include "vocabulary.hpp"
#include "word_memory.hpp"

namespace tokpack::bpe {

/// Splits, looks up and merges. Owns its caches, about 20 MB at the most, and is one thread's own. `Id` is the
/// storage type, uint16 or uint32; every id of the vocabulary must fit it.
template <class Id>
class Encoder {
 public:
  /// Elements beyond the ids themselves that `encode` may overwrite.
  static constexpr std::size_t kSlack = 64;

  Encoder(std::shared_ptr<const Vocabulary> vocabulary, Pattern pattern);

  /// Write the ids of `text`, taken as a whole document, to `out` and return where they end. There are at most
  /// as many ids as bytes; `out` has room for `kSlack` more. Texts of 4 GiB or more are refused
  /// (std::length_error).
  Id* encode(Text text, Id* out);

 private:
  /// A word whose ids are not known yet, and the gap that is left for them.
  struct Gap {
    Text word;
    Id* begin;
    std::size_t count;  // of its ids
  };

  Id* encode_words(Text text, Id* out);
  Id* encode_long(Text word, Id* out);
  Id* encode_uncut(Text word, Id* out);
  Id* leave_gap(Text word, Id* out);
  Id* close_gaps(Id* out);
  void fill_gaps();
  bool begin_next(ShortMerge& merge, Gap*& gap);
  void fill(Gap& gap, std::size_t count);
  Id* merge_long(Text word, Id* out);

  std::shared_ptr<const Vocabulary> vocabulary_;
  Pattern pattern_;
  WordMemory<Id> memory_;
  Merger merger_;
  std::vector<std::uint64_t> marks_;
  const std::uint8_t* text_end_ = nullptr;
  std::vector<Gap> gaps_;     // of the current window
  std::size_t next_gap_ = 0;  // the first whose word is neither known nor being merged
  std::vector<std::uint8_t> kept_bytes_;
};

extern template class Encoder<std::uint16_t>;
extern template class Encoder<std::uint32_t>;

}  // namespace tokpack::bpe
