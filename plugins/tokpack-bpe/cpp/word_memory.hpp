// One memory for words of every length, in three tables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "word_cache.hpp"

namespace tokpack::bpe {

/// The ids of words met before. Bounded: about 10 MB.
template <class Id>
class WordMemory {
 public:
  using Entry = typename ShortWords<Id>::Entry;

  /// Words longer than this are not kept.
  static constexpr std::size_t kLongest = LongWords<Id>::kLongest;

  /// Elements that `find` and `emit` may write, whatever the number of ids.
  static constexpr std::size_t kRoom = LongWords<Id>::kLongest;

  /// The line of a short word's key, soon to be read.
  TOKPACK_BPE_INLINE Entry* line(Vec16 key) const {
    Entry* const line = short_words_.line(key);
    prefetch(line);
    return line;
  }

  TOKPACK_BPE_INLINE Id* emit(const Entry& entry, Id* out) const {
    return entry.payload.template emit<ShortWords<Id>::kRoom>(spill_.data(), out);
  }

  /// Write the ids of `word` to `out` and return where they end, or null if it is not known. The
  /// text that the word is in ends at `end`.
  TOKPACK_BPE_INLINE Id* find(Text word, const std::uint8_t* end, Id* out) const {
    if (word.size() <= ShortWords<Id>::kLongest) {
      const Vec16 key = ShortWords<Id>::key(word, end);
      const Entry* const entry = ShortWords<Id>::find(short_words_.line(key), key);
      return entry == nullptr ? nullptr : emit(*entry, out);
    }
    if (word.size() <= MediumWords<Id>::kLongest) {
      const auto key = MediumWords<Id>::key(word.data(), word.size());
      const auto* const entry = MediumWords<Id>::find(medium_words_.line(key), key);
      if (entry == nullptr) return nullptr;
      return entry->payload.template emit<MediumWords<Id>::kRoom>(spill_.data(), out);
    }
    return long_words_.find(word, LongWords<Id>::hash(word), out);
  }

  /// Remember a word that is not known.
  void insert(Text word, const std::uint8_t* end, const Id* ids, std::size_t count) {
    if (word.size() <= ShortWords<Id>::kLongest) {
      const Vec16 key = ShortWords<Id>::key(word, end);
      const Payload<Id> payload = payload_of(ids, count, ShortWords<Id>::kRoom);
      ShortWords<Id>::insert(short_words_.line(key), key, payload);
    } else if (word.size() <= MediumWords<Id>::kLongest) {
      const auto key = MediumWords<Id>::key(word.data(), word.size());
      const Payload<Id> payload = payload_of(ids, count, MediumWords<Id>::kRoom);
      MediumWords<Id>::insert(medium_words_.line(key), key, payload);
    } else {
      long_words_.insert(word, LongWords<Id>::hash(word), ids, count);
    }
  }

 private:
  static constexpr std::size_t kMaxSpill = std::size_t{1} << 20;

  Payload<Id> payload_of(const Id* ids, std::size_t count, std::size_t room) {
    if (count <= Payload<Id>::kInline) return Payload<Id>::of(ids, count);
    if (spill_.size() + room > kMaxSpill) {
      short_words_.clear();
      medium_words_.clear();
      spill_.clear();
    }
    const auto place = static_cast<std::uint32_t>(spill_.size());
    spill_.insert(spill_.end(), ids, ids + count);
    spill_.resize(place + room);
    return Payload<Id>::spilled(place, count);
  }

  ShortWords<Id> short_words_;
  MediumWords<Id> medium_words_;
  LongWords<Id> long_words_;
  std::vector<Id> spill_;
};

}  // namespace tokpack::bpe
