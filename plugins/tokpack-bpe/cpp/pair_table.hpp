// A hash table from pairs of symbols to small values, made for the trainer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace tokpack::bpe {

using Symbol = std::uint32_t;

/// Two adjacent symbols. The order of `key` is the order of (left, right).
struct Pair {
  Symbol left;
  Symbol right;

  std::uint64_t key() const { return std::uint64_t{left} << 32 | right; }
  static Pair of(std::uint64_t key) { return {static_cast<Symbol>(key >> 32), static_cast<Symbol>(key)}; }
  bool operator==(const Pair&) const = default;
};

/// Open addressing with linear probing, at most half full; nothing is ever removed. Pointers to values are
/// valid until the next insertion.
template <class Value>
class PairTable {
 public:
  explicit PairTable(std::size_t expected = 0) {
    std::size_t slots = 1024;
    while (slots < 2 * expected) slots *= 2;
    slots_.resize(slots);
  }

  std::size_t size() const { return size_; }

  Value* find(Pair pair) {
    Slot& slot = slots_[probe(pair.key())];
    return slot.key == kEmpty ? nullptr : &slot.value;
  }

  Value& operator[](Pair pair) {
    std::size_t at = probe(pair.key());
    if (slots_[at].key == kEmpty) {
      if (2 * ++size_ > slots_.size()) {
        grow();
        at = probe(pair.key());
      }
      slots_[at].key = pair.key();
    }
    return slots_[at].value;
  }

  template <class Visit>
  void for_each(Visit&& visit) {
    for (Slot& slot : slots_) {
      if (slot.key != kEmpty) visit(Pair::of(slot.key), slot.value);
    }
  }

 private:
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};

  struct Slot {
    std::uint64_t key = kEmpty;
    Value value{};
  };

  std::size_t probe(std::uint64_t key) const {
    const std::size_t mask = slots_.size() - 1;
    const std::uint64_t mixed = (key ^ key >> 29) * 0x9E3779B97F4A7C15u;
    std::size_t at = (mixed >> 32 ^ mixed) & mask;
    while (slots_[at].key != key && slots_[at].key != kEmpty) at = (at + 1) & mask;
    return at;
  }

  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    for (Slot& slot : old) {
      if (slot.key != kEmpty) slots_[probe(slot.key)] = std::move(slot);
    }
  }

  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace tokpack::bpe
