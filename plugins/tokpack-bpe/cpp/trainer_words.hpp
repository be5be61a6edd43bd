// The distinct words of a corpus as the trainer works on them: one array of cells.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "simd.hpp"
#include "trainer.hpp"

namespace tokpack::bpe {

/// Stands before each word and after the last one.
inline constexpr Symbol kBoundary = std::numeric_limits<Symbol>::max();

/// One position of a pair: the cell where its left symbol begins, and the weight class of its word.
struct Place {
  std::uint32_t cell;
  std::uint32_t weight_class;
};

/// A symbol that is made by joining covers the cells of its parts and is written into the first and the last
/// of them, so both neighbours of a symbol are found without links and joining touches one spot in memory.
/// `compact` gives every symbol one cell again.
class TrainerWords {
 public:
  explicit TrainerWords(std::span<const CountedWord> words);

  std::uint64_t weight(Place place) const { return weights_[place.weight_class]; }

  /// Cells that `symbol` covers.
  std::uint32_t width(Symbol symbol) const { return widths_[symbol]; }

  /// Announce the symbol that `join` will write for `pair`; symbols are numbered in this order.
  void add_symbol(Pair pair) { widths_.push_back(widths_[pair.left] + widths_[pair.right]); }

  /// True while `pair` stands at `cell`, where it once stood: one of its symbols may be part of another by now.
  bool stands(Pair pair, std::uint32_t cell) const {
    return cells_[cell] == pair.left && cells_[cell + widths_[pair.left]] == pair.right;
  }

  /// The symbol, or boundary, that ends before `cell`.
  Symbol before(std::uint32_t cell) const { return cells_[cell - 1]; }

  /// The symbol, or boundary, that begins at `cell`.
  Symbol at(std::uint32_t cell) const { return cells_[cell]; }

  /// Replace `pair`, which stands at `cell`, by `made`.
  void join(Pair pair, std::uint32_t cell, Symbol made) {
    const std::uint32_t middle = cell + widths_[pair.left];
    // Old starts must not be taken for living symbols: places that name them are still in lists.
    cells_[middle - 1] = cells_[middle] = kInside;
    cells_[cell] = cells_[cell + widths_[made] - 1] = made;
  }

  void fetch(std::uint32_t cell) const { prefetch(&cells_[cell]); }

  /// Give every symbol one cell, and forget words of a single symbol. Invalidates all places.
  void compact();

  /// Call visit(Pair, Place) for each pair of neighbours, in order. Only after `compact`, before any `join`.
  template <class Visit>
  void for_each_pair(Visit&& visit) const {
    std::uint32_t cell = 1;
    for (std::uint32_t weight_class = 0; weight_class < class_ends_.size(); ++weight_class) {
      for (; cell < class_ends_[weight_class]; ++cell) {
        if (cells_[cell] == kBoundary || cells_[cell + 1] == kBoundary) continue;
        visit(Pair{cells_[cell], cells_[cell + 1]}, Place{cell, weight_class});
      }
    }
  }

 private:
  static constexpr Symbol kInside = kBoundary - 1;

  std::vector<Symbol> cells_;
  std::vector<std::uint32_t> widths_;      // by symbol
  std::vector<std::uint64_t> weights_;     // by weight class: the distinct word counts, descending
  std::vector<std::uint32_t> class_ends_;  // by weight class: one past the last boundary of its words
};

}  // namespace tokpack::bpe
