// Counting the distinct words (pre-tokens) of a corpus.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pretokenizer.hpp"
#include "trainer.hpp"

namespace tokpack::bpe {

/// How often each word was added. Words of at most 15 bytes, nearly all of them, live inside the table.
class WordCounts {
 public:
  /// Bytes that `add_readable` reads from the beginning of a short word.
  static constexpr std::size_t kReadableBytes = 16;

  WordCounts();

  void add(std::string_view word, std::uint64_t count = 1);

  /// The same, where `kReadableBytes` bytes can be read from the beginning of the word, however short it is.
  void add_readable(std::string_view word, std::uint64_t count = 1);

  void add(const WordCounts& other);

  std::size_t size() const { return num_short_ + num_long_; }

  /// The words with their counts, in no particular order; valid while this object is not changed.
  std::vector<CountedWord> words() const;

 private:
  /// The bytes of a word, then zeros, then its length in the last byte.
  struct ShortKey {
    std::uint64_t low;
    std::uint64_t high;
  };
  struct ShortSlot {
    ShortKey key;
    std::uint64_t count;  // 0: empty
  };
  struct LongSlot {
    std::uint64_t hash;
    std::uint64_t begin;  // in long_bytes_
    std::uint64_t length;
    std::uint64_t count;  // 0: empty
  };

  ShortSlot& find(ShortKey key);
  LongSlot& find(std::uint64_t hash, std::string_view word);
  std::string_view bytes(const LongSlot& slot) const;
  void add_short(ShortKey key, std::uint64_t count);
  void add_long(std::string_view word, std::uint64_t count);

  // Both with open addressing and linear probing, at most half full, a power of two in size.
  std::vector<ShortSlot> short_slots_;
  std::vector<LongSlot> long_slots_;
  std::size_t num_short_ = 0;
  std::size_t num_long_ = 0;
  std::string long_bytes_;
};

/// Counts the words of documents. Special tokens split a document and are not counted.
class WordCounter {
 public:
  /// No special token is empty, and none overlaps with another.
  explicit WordCounter(Pattern pattern, std::vector<std::string> special_tokens = {});

  /// Count one document of valid UTF-8.
  void count(Text document);

  /// Add what another counter has counted.
  void add(const WordCounter& other);

  const WordCounts& counts() const { return counts_; }
  std::uint64_t total() const { return total_; }  // words, repeats included

 private:
  void count_part(Text part);

  Pattern pattern_;
  std::vector<std::string> special_tokens_;
  std::vector<std::uint64_t> marks_;
  WordCounts counts_;
  std::uint64_t total_ = 0;
};

}  // namespace tokpack::bpe
