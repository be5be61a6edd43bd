// From text to ids, for one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "merge.hpp"
#include "pretokenizer.hpp"
#include "vocabulary.hpp"
#include "word_cache.hpp"

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
  Id* encode_words(Text text, Id* out);
  Id* encode_word(Text word, Id* out);
  Id* encode_long(Text word, Id* out);
  Id* encode_uncut(Text word, Id* out);
  Id* encode_medium(Text word, Id* out);
  Id* miss_short(Text word, Vec16 key, typename ShortWords<Id>::Entry* line, Id* out);
  Payload<Id> payload(const Id* ids, std::size_t count, std::size_t room);
  Id* merge(Text word, Id* out);

  std::shared_ptr<const Vocabulary> vocabulary_;
  Pattern pattern_;
  Merger merger_;
  ShortWords<Id> short_words_;
  MediumWords<Id> medium_words_;
  LongWords<Id> long_words_;
  std::vector<Id> spill_;
  std::vector<std::uint64_t> marks_;
  std::vector<std::uint8_t> kept_bytes_;
};

extern template class Encoder<std::uint16_t>;
extern template class Encoder<std::uint32_t>;

}  // namespace tokpack::bpe
