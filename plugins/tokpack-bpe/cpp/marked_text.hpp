// A text and the beginnings found in it so far, seen from one block of 64 bytes.
#pragma once

#include <bit>
#include <cstddef>

#include "bits.hpp"
#include "unicode.hpp"

namespace tokpack::bpe {

struct MarkedText {
  static constexpr std::size_t kNowhere = ~std::size_t{0};

  Text text;
  Bits* marks;            // settled up to `begin`, but for what `mark` adds
  std::size_t begin = 0;  // of the current block

  /// Note a beginning in an earlier block.
  void mark(std::size_t place) { marks[place / 64] |= bit(place); }

  /// First byte of the character that the byte at `place` is part of.
  std::size_t lead_of(std::size_t place) const {
    while (place > 0 && is_continuation(text[place])) --place;
    return place;
  }

  /// Class of the character that begins at `place`, or `end`.
  Class class_at(std::size_t place) const {
    if (place >= text.size() || place + character_length(text[place]) > text.size()) return Class::end;
    return class_of(decode(text.data() + place).point);
  }

  /// The last beginning in an earlier block.
  std::size_t last_mark() const {
    for (std::size_t i = begin / 64; i-- > 0;) {
      if (marks[i] != 0) return i * 64 + 63 - static_cast<std::size_t>(std::countl_zero(marks[i]));
    }
    return 0;
  }

  /// First bytes of the characters whose last bytes are given; those in earlier blocks are marked there.
  TOKPACK_BPE_INLINE Bits first_bytes(Bits last, Bits continuation) {
    const Bits wide = last & continuation;
    if (wide == 0) [[likely]] {
      return last;
    }
    Bits first = last & ~wide;
    for (Bits left = wide; left != 0; left &= left - 1) {
      const std::size_t lead = lead_of(begin + lowest(left));
      if (lead >= begin) {
        first |= bit(lead);
      } else {
        mark(lead);
      }
    }
    return first;
  }
};

}  // namespace tokpack::bpe
