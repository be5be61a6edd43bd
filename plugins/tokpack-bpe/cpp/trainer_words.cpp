#include "trainer_words.hpp"

#include <algorithm>
#include <stdexcept>

namespace tokpack::bpe {

TrainerWords::TrainerWords(std::span<const CountedWord> words) : widths_(256, 1) {
  std::vector<CountedWord> sorted;
  std::size_t cells = 1;
  for (const CountedWord& word : words) {
    if (word.bytes.size() < 2 || word.count == 0) continue;
    sorted.push_back(word);
    cells += word.bytes.size() + 1;
  }
  if (cells >= kInside) throw std::length_error("the distinct words have 4 GiB or more");
  // Frequent words side by side: most work happens in few pages of memory.
  std::sort(sorted.begin(), sorted.end(),
            [](const CountedWord& x, const CountedWord& y) { return x.count > y.count; });

  std::array<Symbol, 256> symbol_of{};
  for (Symbol symbol = 0; const std::uint8_t byte : byte_of_symbol()) symbol_of[byte] = symbol++;

  cells_.reserve(cells);
  cells_.push_back(kBoundary);
  for (const CountedWord& word : sorted) {
    if (weights_.empty() || weights_.back() != word.count) {
      weights_.push_back(word.count);
      class_ends_.push_back(0);
    }
    for (const char byte : word.bytes) cells_.push_back(symbol_of[static_cast<std::uint8_t>(byte)]);
    cells_.push_back(kBoundary);
    class_ends_.back() = static_cast<std::uint32_t>(cells_.size());
  }
}

void TrainerWords::compact() {
  std::uint32_t from = 1;
  std::uint32_t to = 1;
  for (std::uint32_t& class_end : class_ends_) {
    const std::uint32_t old_end = class_end;
    while (from < old_end) {
      const std::uint32_t begin = to;
      for (; cells_[from] != kBoundary; from += widths_[cells_[to++]]) cells_[to] = cells_[from];
      ++from;
      if (to - begin < 2) {
        to = begin;
      } else {
        cells_[to++] = kBoundary;
      }
    }
    class_end = to;
  }
  cells_.resize(to);
  std::fill(widths_.begin(), widths_.end(), 1);
}

}  // namespace tokpack::bpe
