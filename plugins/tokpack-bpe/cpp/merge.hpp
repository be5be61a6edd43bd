// Byte-pair merging of one word: the lowest pair of neighbours merges first, the leftmost among equals.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "merge_table.hpp"
#include "unicode.hpp"

namespace tokpack::bpe {

/// Words up to this length are merged in a few vector registers.
inline constexpr std::size_t kShortWord = 64;

/// One short word on its way from bytes to symbols. Every merge waits for what memory says about the pairs that
/// the one before it made, so that several words do well to take turns: `advance` asks, `settle` takes the
/// answers.
class ShortMerge {
 public:
  /// Begin with a word of 1 to `kShortWord` bytes.
  void begin(const MergeTable& table, Text word);

  /// Do the first of the merges that are left, and ask about the new pairs. False if there was none to do.
  bool advance(const MergeTable& table);

  /// Note what the new pairs merge into. To be called once after every `advance`.
  TOKPACK_BPE_INLINE void settle(const MergeTable& table) {
    candidates_[at_] = candidate(table.find(at_pair_), at_);
    candidates_[before_] = candidate(table.find(before_pair_), before_);
  }

  /// The symbol that the last merge made.
  Symbol made() const { return symbols_[at_]; }

  /// Bit i is set if a symbol begins at byte i.
  std::uint64_t places() const { return places_; }
  Symbol symbol_at(std::size_t place) const { return symbols_[place]; }

 private:
  /// What neighbours merge into, and where: one number, so that the lowest is both first in rank and leftmost.
  static constexpr int kPlaceBits = 32 - kSymbolBits;
  static constexpr std::uint32_t kNoMerge = static_cast<std::uint32_t>(kMaxSymbols) << kPlaceBits;
  static constexpr std::uint32_t candidate(Symbol merged, std::size_t place) {
    return merged << kPlaceBits | static_cast<std::uint32_t>(place);
  }

  /// Past the end: a symbol that is in no pair, and room for answers that nobody needs.
  static constexpr std::size_t kNowhere = kShortWord;

  alignas(16) std::uint32_t candidates_[kShortWord + 1];  // for each symbol and the one after it
  Symbol symbols_[kShortWord + 1];                        // each where its first byte was
  std::uint64_t places_;
  std::size_t padded_;       // candidates, in whole vectors
  std::size_t at_, before_;  // the symbol that was made last, and the one before it
  MergeTable::Query at_pair_, before_pair_;
};

/// A symbol and where in the word it begins.
struct Piece {
  Symbol symbol;
  std::uint32_t start;
};

/// Merges words of any length in time that is linear for any text met so far. Holds scratch memory, so it is
/// one thread's own.
class Merger {
 public:
  /// The symbols of `word`, valid until the next call.
  const std::vector<Piece>& merge(const MergeTable& table, Text word);

 private:
  void merge_window(const MergeTable& table, Text window, std::vector<Piece>& pieces);
  std::size_t join(const MergeTable& table, Text rest, std::size_t width, std::size_t& kept);
  void append(std::size_t begin, std::size_t count);
  void merge_heap(const MergeTable& table, Text window, std::vector<Piece>& pieces);

  std::vector<Piece> pieces_, window_, next_window_;
  std::vector<std::uint64_t> heap_;
  std::vector<Symbol> symbols_;
  std::vector<std::uint32_t> previous_, next_;
};

}  // namespace tokpack::bpe
