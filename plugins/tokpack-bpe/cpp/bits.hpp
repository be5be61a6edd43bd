// Masks with one bit per byte of a block of 64.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "simd.hpp"

namespace tokpack::bpe {

using Bits = std::uint64_t;

/// The bit of a place in the text, in its block.
constexpr Bits bit(std::size_t place) { return Bits{1} << (place & 63); }

constexpr std::size_t lowest(Bits bits) { return static_cast<std::size_t>(std::countr_zero(bits)); }

/// The byte before each: moves a mask up by one, and keeps its last bit for the next block.
class Before {
 public:
  TOKPACK_BPE_INLINE Bits operator()(Bits bits) {
    const Bits moved = bits << 1 | carried_;
    carried_ = bits >> 63;
    return moved;
  }

 private:
  Bits carried_ = 0;
};

}  // namespace tokpack::bpe
