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

/// Merge a word of 1 to `kShortWord` bytes. Each symbol stands in `symbols` (room for `kShortWord`) where
/// its first byte was; the set bits of the result are the places that hold one.
std::uint64_t merge_short(const MergeTable& table, const std::uint8_t* word, std::size_t size, Symbol* symbols);

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
