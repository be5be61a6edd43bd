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

/// Open addressing, at most half full: one load for most answers.
class MergeTable {
 public:
  /// A table for at most `pairs` pairs.
  explicit MergeTable(std::size_t pairs = 0)
      : bytes_(allocate_table<Symbol>(1 << 16)),
        mask_(std::bit_ceil(pairs * 2 + 2) - 1),
        slots_(allocate_table<std::uint64_t>(mask_ + 1)) {
    std::fill_n(bytes_.get(), 1 << 16, kNone);
    std::fill_n(slots_.get(), mask_ + 1, kEmpty);
  }

  /// Add a pair that is not in the table yet.
  void insert(Symbol left, Symbol right, Symbol merged) {
    if (left < 256 && right < 256) bytes_[left << 8 | right] = merged;
    const std::uint64_t key = key_of(left, right);
    std::size_t at = place(key);
    while (slots_[at] != kEmpty) at = (at + 1) & mask_;
    slots_[at] = key << kSymbolBits | merged;
  }

  /// The symbol that the pair merges into, or `kNone`.
  TOKPACK_BPE_INLINE Symbol find(Symbol left, Symbol right) const {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t at = place(key);; at = (at + 1) & mask_) {
      const std::uint64_t slot = slots_[at];
      if (slot >> kSymbolBits == key) return static_cast<Symbol>(slot & kMaxSymbols);
      if (slot == kEmpty) return kNone;
    }
  }

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

  static TOKPACK_BPE_INLINE std::uint64_t key_of(Symbol left, Symbol right) {
    return static_cast<std::uint64_t>(left) << kSymbolBits | right;
  }
  TOKPACK_BPE_INLINE std::size_t place(std::uint64_t key) const { return hash_64(0x9E37, key) & mask_; }

  std::unique_ptr<Symbol[], FreeMemory> bytes_;
  std::size_t mask_;
  std::unique_ptr<std::uint64_t[], FreeMemory> slots_;
};

}  // namespace tokpack::bpe
