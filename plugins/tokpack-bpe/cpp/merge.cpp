#include "merge.hpp"

#include <algorithm>
#include <bit>
#include <functional>

namespace tokpack::bpe {

void ShortMerge::begin(const MergeTable& table, Text word) {
  const std::size_t size = word.size();
  padded_ = (size + 15) & ~std::size_t{15};
  for (std::size_t i = 0; i < size; ++i) symbols_[i] = word[i];
  for (std::size_t i = 0; i + 1 < size; ++i) candidates_[i] = candidate(table.find_bytes(word[i], word[i + 1]), i);
  for (std::size_t i = size - 1; i < padded_; ++i) candidates_[i] = kNone;
  symbols_[kNowhere] = kMaxSymbols;
  places_ = ~std::uint64_t{0} >> (64 - size);
}

bool ShortMerge::advance(const MergeTable& table) {
  Vec16 lowest = Vec16::load(candidates_);
  for (std::size_t i = 4; i < padded_; i += 4) lowest = min_u32(lowest, Vec16::load(candidates_ + i));
  const std::uint32_t best = lowest.lowest_u32();
  if (best >= kNoMerge) return false;

  at_ = best & ((1u << kPlaceBits) - 1);
  const Symbol merged = best >> kPlaceBits;
  symbols_[at_] = merged;
  const std::uint64_t after = places_ >> 1 >> at_;
  const std::size_t gone = at_ + 1 + static_cast<std::size_t>(std::countr_zero(after));
  candidates_[gone] = kNone;
  places_ &= ~(std::uint64_t{1} << gone);
  const std::uint64_t beyond = after & (after - 1);
  const std::size_t next = beyond == 0 ? kNowhere : at_ + 1 + static_cast<std::size_t>(std::countr_zero(beyond));
  const std::uint64_t earlier = places_ & ((std::uint64_t{1} << at_) - 1);
  before_ = earlier == 0 ? kNowhere : 63 - static_cast<std::size_t>(std::countl_zero(earlier));
  at_pair_ = table.prefetched(merged, symbols_[next]);
  before_pair_ = table.prefetched(symbols_[before_], merged);
  return true;
}

void Merger::merge_heap(const MergeTable& table, Text window, std::vector<Piece>& pieces) {
  const auto size = static_cast<std::uint32_t>(window.size());
  symbols_.assign(window.begin(), window.end());
  previous_.resize(size);
  next_.resize(size);
  heap_.clear();
  const auto offer = [&](std::uint32_t left, std::uint32_t right) {
    const Symbol merged = table.find(symbols_[left], symbols_[right]);
    if (merged != kNone) heap_.push_back(static_cast<std::uint64_t>(merged) << 32 | left);
    return merged != kNone;
  };
  for (std::uint32_t i = 0; i < size; ++i) {
    previous_[i] = i - 1;
    next_[i] = i + 1;
    if (i + 1 < size) offer(i, i + 1);
  }
  std::make_heap(heap_.begin(), heap_.end(), std::greater<>());

  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    const auto merged = static_cast<Symbol>(heap_.back() >> 32);
    const auto left = static_cast<std::uint32_t>(heap_.back());
    heap_.pop_back();
    const std::uint32_t right = symbols_[left] == kNone ? size : next_[left];
    // Offers are not withdrawn when a neighbour changes; stale ones are recognised here.
    if (right >= size || table.find(symbols_[left], symbols_[right]) != merged) continue;
    symbols_[left] = merged;
    symbols_[right] = kNone;
    next_[left] = next_[right];
    if (next_[left] < size) {
      previous_[next_[left]] = left;
      if (offer(left, next_[left])) std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    }
    if (left > 0 && offer(previous_[left], left)) std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }
  pieces.clear();
  for (std::uint32_t i = 0; i < size; i = next_[i]) pieces.push_back({symbols_[i], i});
}

void Merger::merge_window(const MergeTable& table, Text window, std::vector<Piece>& pieces) {
  if (window.size() > kShortWord) return merge_heap(table, window, pieces);
  ShortMerge word;
  word.begin(table, window);
  while (word.advance(table)) word.settle(table);
  pieces.clear();
  for (std::uint64_t left = word.places(); left != 0; left &= left - 1) {
    const auto place = static_cast<std::uint32_t>(std::countr_zero(left));
    pieces.push_back({word.symbol_at(place), place});
  }
}

// A long word is merged in overlapping windows. What makes that exact: a sequence of symbols is the result of
// merging if and only if every two neighbours in it, merged on their own, give themselves. (A first merge
// across the boundary of two such neighbours would be the lowest of all, so also the lowest of the two alone.)
// Each window gives a sequence in which that holds, and two such sequences may be joined at a symbol they share.
const std::vector<Piece>& Merger::merge(const MergeTable& table, Text word) {
  pieces_.clear();
  std::size_t begin = 0;
  std::size_t width = std::min(word.size(), kShortWord);
  merge_window(table, word.first(width), window_);
  while (begin + width < word.size()) {
    std::size_t kept = 0;
    const std::size_t next_width = join(table, word.subspan(begin), width, kept);
    if (next_width == 0) {
      width = std::min(word.size() - begin, width * 8);
      merge_window(table, word.subspan(begin, width), window_);
      continue;
    }
    append(begin, kept);
    begin += window_[kept].start;
    width = next_width;
    window_.swap(next_window_);
  }
  append(begin, window_.size());
  return pieces_;
}

/// Merge a next window into next_window_ that begins with the symbol window_[kept] of the current one, which
/// covers the first `width` bytes of `rest`. Returns the next window's width, or 0 if none was found.
std::size_t Merger::join(const MergeTable& table, Text rest, std::size_t width, std::size_t& kept) {
  // The second half of a window may owe its symbols to where the window ends.
  std::size_t last = window_.size() - 1;
  while (last > 0 && window_[last].start > width / 2) --last;
  for (const std::size_t wanted : {kShortWord, 8 * kShortWord, 64 * kShortWord}) {
    constexpr std::size_t kTries = 4;
    for (kept = last; kept > 0 && kept + kTries > last; --kept) {
      const Text after = rest.subspan(window_[kept].start);
      const std::size_t next_width = std::min(after.size(), wanted);
      merge_window(table, after.first(next_width), next_window_);
      if (next_window_[0].symbol == window_[kept].symbol) return next_width;
    }
    if (wanted >= width) break;
  }
  return 0;
}

void Merger::append(std::size_t begin, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    pieces_.push_back({window_[i].symbol, static_cast<std::uint32_t>(begin + window_[i].start)});
  }
}

}  // namespace tokpack::bpe
