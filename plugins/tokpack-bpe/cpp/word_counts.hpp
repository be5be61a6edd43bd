// Counting the distinct words (pre-tokens) of a corpus.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pretokenizer.hpp"
#include "trainer.hpp"

namespace tokpack::bpe {

/// A word of at most 15 bytes: its bytes, then zeros, then its length in the last byte.
struct ShortWord {
  static constexpr std::size_t kMaxBytes = 15;

  std::uint64_t low;
  std::uint64_t high;

  static ShortWord of(std::string_view word);

  /// The same, faster; 16 bytes can be read from the beginning of the word, however short it is.
  static ShortWord of_readable(std::string_view word);

  std::string_view bytes() const { return {reinterpret_cast<const char*>(this), high >> 56}; }
};

/// How often each word was added. Short words, nearly all of them, live inside the table.
class WordCounts {
 public:
  WordCounts();

  void add(std::string_view word, std::uint64_t count = 1);

  /// Add each word once. Several at a time are faster: their places in memory are fetched side by side.
  void add(std::span<const ShortWord> words);

  void add(const WordCounts& other);

  std::size_t size() const { return num_short_ + num_long_; }

  /// The words with their counts, in no particular order; valid while this object is not changed.
  std::vector<CountedWord> words() const;

 private:
  struct ShortSlot {
    ShortWord word;
    std::uint64_t count;  // 0: empty
  };
  struct LongSlot {
    std::uint64_t hash;
    std::uint64_t begin;  // in long_bytes_
    std::uint64_t length;
    std::uint64_t count;  // 0: empty
  };

  ShortSlot& find(ShortWord word, std::uint64_t hash);
  LongSlot& find(std::string_view word, std::uint64_t hash);
  std::string_view bytes(const LongSlot& slot) const;
  void add_short(ShortWord word, std::uint64_t hash, std::uint64_t count);
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
  void flush();

  static constexpr std::size_t kPending = 64;

  Pattern pattern_;
  std::vector<std::string> special_tokens_;
  std::vector<std::uint64_t> marks_;
  std::array<ShortWord, kPending> pending_;
  std::size_t num_pending_ = 0;
  WordCounts counts_;
  std::uint64_t total_ = 0;
};

}  // namespace tokpack::bpe
