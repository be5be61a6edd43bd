// From a pair of symbols to the symbol they merge into: the one table that merging looks into.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "memory.hpp"
#include "simd.hpp"

namespace tokpack::bpe {

/// What merging works on: 0 to 255 are the single bytes, from 256 on the results of merges, numbered in the
/// order in which the merges apply. The lower symbol merges first: comparing symbols is comparing ranks.
using Symbol = std::uint32_t;

inline constexpr std::uint32_t kNone = 0xFFFFFFFF;

/// Three symbols fit one slot of 64 bits; the highest one stands for none.
inline constexpr int kSymbolBits = 20;
inline constexpr std::size_t kMaxSymbols = (std::size_t{1} << kSymbolBits) - 1;

/// Open addressing in buckets of four, at most half full: a pair is where its hash says, or in a bucket after it
/// if that one is full, which is rare.
class MergeTable {
 public:
  /// A pair that is being asked for.
  struct Query {
    std::uint64_t key;
    std::size_t bucket;  // index of its first slot
  };

  /// A table for at most `pairs` pairs.
  explicit MergeTable(std::size_t pairs = 0)
      : bytes_(allocate_table<Symbol>(1 << 16)),
        mask_(std::bit_ceil(pairs * 2 + kBucket) - 1),
        slots_(allocate_table<std::uint64_t>(mask_ + 1)) {
    std::fill_n(bytes_.get(), 1 << 16, kNone);
    std::fill_n(slots_.get(), mask_ + 1, kEmpty);
  }

  /// Add a pair that is not in the table yet.
  void insert(Symbol left, Symbol right, Symbol merged) {
    if (left < 256 && right < 256) bytes_[left << 8 | right] = merged;
    const Query query = ask(left, right);
    std::size_t at = query.bucket;
    while (slots_[at] != kEmpty) at = (at + 1) & mask_;
    slots_[at] = query.key << kSymbolBits | merged;
  }

  /// Begin to look for a pair: its place is on its way from memory.
  TOKPACK_BPE_INLINE Query prefetched(Symbol left, Symbol right) const {
    const Query query = ask(left, right);
    prefetch(&slots_[query.bucket]);
    return query;
  }

  /// The symbol that the pair merges into, or `kNone`.
  TOKPACK_BPE_INLINE Symbol find(Query query) const {
    for (std::size_t bucket = query.bucket;; bucket = (bucket + kBucket) & mask_) {
      Symbol found = kNone;
      for (std::size_t i = 0; i < kBucket; ++i) {
        const std::uint64_t slot = slots_[bucket + i];
        found = slot >> kSymbolBits == query.key ? static_cast<Symbol>(slot & kMaxSymbols) : found;
      }
      if (found != kNone || slots_[bucket + kBucket - 1] == kEmpty) [[likely]] {
        return found;
      }
    }
  }

  TOKPACK_BPE_INLINE Symbol find(Symbol left, Symbol right) const { return find(ask(left, right)); }

  /// The same for two bytes.
  TOKPACK_BPE_INLINE Symbol find_bytes(std::uint8_t left, std::uint8_t right) const {
    return bytes_[static_cast<std::size_t>(left) << 8 | right];
  }

  /// Call visit(left, right, merged) for every pair, in no order.
  template <class Visit>
  void for_each(Visit visit) const {
    constexpr auto symbol = [](std::uint64_t bits) { return static_cast<Symbol>(bits & kMaxSymbols); };
    for (std::size_t at = 0; at <= mask_; ++at) {
      const std::uint64_t slot = slots_[at];
      if (slot != kEmpty) visit(symbol(slot >> 2 * kSymbolBits), symbol(slot >> kSymbolBits), symbol(slot));
    }
  }

 private:
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};
  static constexpr std::size_t kBucket = 4;

  TOKPACK_BPE_INLINE Query ask(Symbol left, Symbol right) const {
    const std::uint64_t key = static_cast<std::uint64_t>(left) << kSymbolBits | right;
    return {key, hash_64(0x9E37, key) & mask_ & ~(kBucket - 1)};
  }

  std::unique_ptr<Symbol[], FreeMemory> bytes_;
  std::size_t mask_;
  std::unique_ptr<std::uint64_t[], FreeMemory> slots_;
};

}  // namespace tokpack::bpe
