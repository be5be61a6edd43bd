// From ids back to bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "vocabulary.hpp"

namespace tokpack::bpe {

/// An id that no token has.
class UnknownIdError : public std::runtime_error {
 public:
  UnknownIdError(std::uint64_t id, std::size_t position);
};

/// The bytes of every token, those of special and other added ones included. Immutable.
class Decoder {
 public:
  explicit Decoder(std::span<const Token> tokens);

  /// Bytes that `ids` stand for, as a number. Throws UnknownIdError.
  template <class Id>
  std::size_t size(std::span<const Id> ids) const {
    std::size_t total = 0;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] >= slots_.size() || slots_[ids[i]].size == kUnknown) throw UnknownIdError(ids[i], i);
      const Slot& slot = slots_[ids[i]];
      total += slot.size == kLong ? slot.long_size() : slot.size;
    }
    return total;
  }

  /// Write the bytes of `ids`, all of them known, to `out`, which has room for exactly `size(ids)`.
  template <class Id>
  void decode(std::span<const Id> ids, std::uint8_t* out, std::size_t room) const {
    const std::uint8_t* const end = out + room;
    for (const Id id : ids) {
      const Slot& slot = slots_[id];
      if (slot.size == kLong) {
        std::memcpy(out, long_bytes_.data() + slot.long_place(), slot.long_size());
        out += slot.long_size();
      } else if (end - out >= 16) [[likely]] {
        std::memcpy(out, &slot, 16);  // the whole slot: quicker than asking how much of it is wanted
        out += slot.size;
      } else {
        std::memcpy(out, slot.bytes, slot.size);
        out += slot.size;
      }
    }
  }

 private:
  static constexpr std::uint8_t kLong = 0xFE;
  static constexpr std::uint8_t kUnknown = 0xFF;

  struct Slot {
    std::uint8_t bytes[15];
    std::uint8_t size = kUnknown;

    std::uint32_t long_place() const { return load(bytes); }
    std::uint32_t long_size() const { return load(bytes + 4); }
    static std::uint32_t load(const std::uint8_t* from) {
      std::uint32_t value;
      std::memcpy(&value, from, 4);
      return value;
    }
  };

  std::vector<Slot> slots_;
  std::string long_bytes_;
};

}  // namespace tokpack::bpe
