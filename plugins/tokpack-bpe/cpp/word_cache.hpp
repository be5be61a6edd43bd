// Remembering the ids of words: most pre-tokens of any text have been seen before.
//
// Bounded by construction: tables of fixed size, and a spill area that empties everything when it is full.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "memory.hpp"
#include "simd.hpp"
#include "unicode.hpp"

namespace tokpack::bpe {

/// Up to seven ids of 16 bits or five of 24, and their number, in 16 bytes. More ids lie in a spill area.
template <class Id>
class Payload {
 public:
  static constexpr std::size_t kInline = sizeof(Id) == 2 ? 7 : 5;

  static Payload of(const Id* ids, std::size_t count) {
    Payload payload{};
    constexpr std::size_t width = sizeof(Id) == 2 ? 2 : 3;
    for (std::size_t i = 0; i < count; ++i) std::memcpy(payload.bytes_ + width * i, ids + i, width);
    payload.bytes_[kCount] = static_cast<std::uint8_t>(count);
    return payload;
  }

  static Payload spilled(std::uint32_t place, std::size_t count) {
    Payload payload{};
    std::memcpy(payload.bytes_, &place, 4);
    payload.bytes_[4] = static_cast<std::uint8_t>(count);
    payload.bytes_[kCount] = kSpilled;
    return payload;
  }

  /// Write the ids to `out` and return where they end. Writes up to `kRoom` ids, whatever their number: copying
  /// all is quicker than asking how many. A spilled run is readable for `kRoom` ids, too.
  template <std::size_t kRoom>
  TOKPACK_BPE_INLINE Id* emit(const Id* spill, Id* out) const {
    const Vec16 all = Vec16::load(bytes_);
    if constexpr (sizeof(Id) == 2) {
      all.store(out);
    } else {
      all.widen_24_to_32().store(out);
      std::uint32_t last;
      std::memcpy(&last, bytes_ + 12, 4);
      out[4] = last & 0xFFFFFF;
    }
    const std::uint8_t count = bytes_[kCount];
    if (count <= kInline) [[likely]] {
      return out + count;
    }
    std::uint32_t place;
    std::memcpy(&place, bytes_, 4);
    std::memcpy(out, spill + place, kRoom * sizeof(Id));
    return out + bytes_[4];
  }

 private:
  static constexpr std::size_t kCount = sizeof(Id) == 2 ? 14 : 15;
  static constexpr std::uint8_t kSpilled = 255;

  std::uint8_t bytes_[16];
};

/// Words of up to 15 bytes: the hot table. Two entries share a cache line; the first word to come keeps the
/// first of them, so that frequent words are not driven out by rare ones.
template <class Id>
class ShortWords {
 public:
  static constexpr std::size_t kLongest = 15;
  static constexpr std::size_t kRoom = 16;

  struct Entry {
    std::uint8_t key[16];
    Payload<Id> payload;
  };

  ShortWords() : lines_(allocate_table<Line>(kLines)) {}

  /// The bytes of a word of `size` bytes at `from`, zeros, and its size: no two words have the same. Reads 16
  /// bytes. The key of a word that is too long is that of no entry.
  static TOKPACK_BPE_INLINE Vec16 key(const std::uint8_t* from, std::size_t size) {
    const std::uint8_t* const shape = kShapes.rows[std::min<std::size_t>(size, 16)];
    return (Vec16::load(from) & Vec16::load(shape)) | Vec16::load(shape + 16);
  }

  /// The key of a word of at most 15 bytes in a text that ends at `end`, beyond which nothing is read.
  static TOKPACK_BPE_INLINE Vec16 key(Text word, const std::uint8_t* end) {
    if (end - word.data() >= 16) [[likely]] {
      return key(word.data(), word.size());
    }
    std::uint8_t copy[16] = {};
    std::memcpy(copy, word.data(), word.size());
    return key(copy, word.size());
  }

  TOKPACK_BPE_INLINE Entry* line(Vec16 key) const {
    return lines_[hash_64(hash_64(0x9E3779B9, key.low()), key.high()) % kLines].entries;
  }

  /// The entry of `line` that holds `key`, or null.
  static TOKPACK_BPE_INLINE const Entry* find(const Entry* line, Vec16 key) {
    // Both entries are compared before either answer is looked at: one branch, and that one well predicted.
    const bool first = (key ^ Vec16::load(line[0].key)).is_zero();
    const bool second = (key ^ Vec16::load(line[1].key)).is_zero();
    if (!(first | second)) [[unlikely]] {
      return nullptr;
    }
    return line + second;
  }

  static void insert(Entry* line, Vec16 key, Payload<Id> payload) {
    Entry& entry = line[line[0].key[15] != 0];
    key.store(entry.key);
    entry.payload = payload;
  }

  void clear() { std::memset(static_cast<void*>(lines_.get()), 0, kLines * sizeof(Line)); }

 private:
  static constexpr std::size_t kLines = std::size_t{1} << 17;  // 8 MB: a larger table hardly helps new text

  struct alignas(64) Line {
    Entry entries[2];
  };

  struct Shapes {
    std::uint8_t rows[17][32];
    constexpr Shapes() : rows{} {
      for (std::size_t size = 0; size <= kLongest; ++size) {
        for (std::size_t i = 0; i < size; ++i) rows[size][i] = 0xFF;
        rows[size][31] = static_cast<std::uint8_t>(size);
      }
      rows[16][31] = 0xFF;
    }
  };
  alignas(64) static constexpr Shapes kShapes{};

  std::unique_ptr<Line[], FreeMemory> lines_;
};

/// Words of 16 to 31 bytes, told apart by their first and last 16 bytes and their size.
template <class Id>
class MediumWords {
 public:
  static constexpr std::size_t kLongest = 31;
  static constexpr std::size_t kRoom = 32;

  struct Key {
    Vec16 head, tail;
    std::uint8_t size;
  };

  struct alignas(64) Entry {
    std::uint8_t head[16], tail[16];
    Payload<Id> payload;
    std::uint8_t size;
  };

  MediumWords() : entries_(allocate_table<Entry>(kEntries)) {}

  static Key key(const std::uint8_t* word, std::size_t size) {
    return {Vec16::load(word), Vec16::load(word + size - 16), static_cast<std::uint8_t>(size)};
  }

  Entry* line(const Key& key) const {
    const std::uint64_t head = hash_64(hash_64(key.size, key.head.low()), key.head.high());
    const std::uint64_t both = hash_64(hash_64(head, key.tail.low()), key.tail.high());
    return &entries_[both % kEntries & ~std::uint64_t{1}];
  }

  static const Entry* find(const Entry* line, const Key& key) {
    for (const Entry* entry = line; entry != line + 2; ++entry) {
      const Vec16 difference = (key.head ^ Vec16::load(entry->head)) | (key.tail ^ Vec16::load(entry->tail));
      if (difference.is_zero() && entry->size == key.size) return entry;
    }
    return nullptr;
  }

  static void insert(Entry* line, const Key& key, Payload<Id> payload) {
    Entry& entry = line[line[0].size != 0];
    key.head.store(entry.head);
    key.tail.store(entry.tail);
    entry.size = key.size;
    entry.payload = payload;
  }

  void clear() { std::memset(static_cast<void*>(entries_.get()), 0, kEntries * sizeof(Entry)); }

 private:
  static constexpr std::size_t kEntries = std::size_t{1} << 15;

  std::unique_ptr<Entry[], FreeMemory> entries_;
};

/// Longer words, up to a size at which they are hardly ever met again.
template <class Id>
class LongWords {
 public:
  static constexpr std::size_t kLongest = 512;

  LongWords() : slots_(kSlots) {}

  /// Write the ids of `word` to `out` and return where they end, or null if the word is not known.
  Id* find(Text word, std::uint64_t hash, Id* out) const {
    for (const Slot* slot = slots_.data() + place(hash), *end = slot + 2; slot != end; ++slot) {
      if (slot->hash != hash || slot->size != word.size() ||
          std::memcmp(bytes_.data() + slot->bytes, word.data(), word.size()) != 0) {
        continue;
      }
      return std::copy_n(ids_.data() + slot->ids, slot->count, out);
    }
    return nullptr;
  }

  void insert(Text word, std::uint64_t hash, const Id* ids, std::size_t count) {
    if (bytes_.size() + word.size() > kMaxBytes) {
      std::fill(slots_.begin(), slots_.end(), Slot{});
      bytes_.clear();
      ids_.clear();
    }
    Slot* const slot = slots_.data() + place(hash);
    slot[1] = slot[0];
    slot[0] = {hash, static_cast<std::uint32_t>(bytes_.size()), static_cast<std::uint32_t>(ids_.size()),
               static_cast<std::uint16_t>(word.size()), static_cast<std::uint16_t>(count)};
    bytes_.insert(bytes_.end(), word.begin(), word.end());
    ids_.insert(ids_.end(), ids, ids + count);
  }

  static std::uint64_t hash(Text word) {
    std::uint64_t hash = 0x9E3779B97F4A7C15u ^ word.size(), chunk;
    for (std::size_t i = 0; i + 8 <= word.size(); i += 8) {
      std::memcpy(&chunk, word.data() + i, 8);
      hash = (hash ^ chunk) * 0xD6E8FEB86659FD93u;
      hash ^= hash >> 32;
    }
    std::memcpy(&chunk, word.data() + word.size() - 8, 8);
    hash = (hash ^ chunk) * 0xD6E8FEB86659FD93u;
    return hash ^ hash >> 32;
  }

 private:
  static constexpr std::size_t kSlots = std::size_t{1} << 14;
  static constexpr std::size_t kMaxBytes = std::size_t{4} << 20;

  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t bytes = 0, ids = 0;
    std::uint16_t size = 0, count = 0;
  };

  static std::size_t place(std::uint64_t hash) { return hash % kSlots & ~std::uint64_t{1}; }

  std::vector<Slot> slots_;
  std::vector<std::uint8_t> bytes_;
  std::vector<Id> ids_;
};

}  // namespace tokpack::bpe
