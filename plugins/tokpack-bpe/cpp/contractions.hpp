// 's, 't, 're, 've, 'm, 'll, 'd: rare enough to be looked at one by one.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bits.hpp"
#include "marked_text.hpp"

namespace tokpack::bpe {

/// Moves the beginnings that contractions decide on, also those in the block after theirs.
class Contractions {
 public:
  /// What the block before has decided on.
  TOKPACK_BPE_INLINE Bits continued(Bits starts) {
    starts = (starts & ~clear_next_) | set_next_;
    clear_next_ = set_next_ = 0;
    return starts;
  }

  /// gpt2 and cl100k: those that begin a pre-token are one.
  TOKPACK_BPE_INLINE Bits split(const MarkedText& in, Bits apostrophe, Bits starts, bool any_case) {
    for (Bits left = apostrophe & starts; left != 0; left &= left - 1) {
      const std::size_t place = lowest(left);
      const std::size_t length = length_at(in.text, in.begin + place, any_case);
      if (length == 0) continue;
      starts = isolate(starts, place + 1, place + length);
      if (place + length < 64) left |= apostrophe & bit(place + length);
    }
    return starts;
  }

  /// o200k: those after a word, which `apostrophe_after_word` are, belong to it.
  TOKPACK_BPE_INLINE Bits join(const MarkedText& in, Bits apostrophe_after_word, Bits starts) {
    for (Bits left = apostrophe_after_word; left != 0; left &= left - 1) {
      const std::size_t place = lowest(left);
      // What follows a contraction is a new pre-token, to which an apostrophe belongs as its first sign.
      if (in.begin + place == last_end_) continue;
      const std::size_t length = length_at(in.text, in.begin + place, true);
      if (length == 0) continue;
      starts = isolate(starts, place, place + length);
      last_end_ = in.begin + place + length;
    }
    return starts;
  }

 private:
  /// Length of the contraction whose apostrophe is at `at`, in lower or in any case; 0 if there is none.
  static std::size_t length_at(Text text, std::size_t at, bool any_case) {
    const auto byte = [&](std::size_t i) -> std::uint8_t { return i < text.size() ? text[i] : 0; };
    const std::uint8_t fold = any_case ? 0x20 : 0;
    const std::uint8_t first = byte(at + 1), second = byte(at + 2);
    if (any_case && first == 0xC5 && second == 0xBF) return 3;  // U+017F, the long s
    switch (first | fold) {
      case 's': case 't': case 'm': case 'd': return 2;
      case 'l': return (second | fold) == 'l' ? 3 : 0;
      case 'r': case 'v': return (second | fold) == 'e' ? 3 : 0;
      default: return 0;
    }
  }

  /// Clear the beginnings in [first, last), and set one at `last`. Both may reach into the next block.
  Bits isolate(Bits starts, std::size_t first, std::size_t last) {
    for (std::size_t place = first; place < last; ++place) {
      if (place < 64) {
        starts &= ~bit(place);
      } else {
        clear_next_ |= bit(place);
      }
    }
    if (last < 64) return starts | bit(last);
    set_next_ |= bit(last);
    return starts;
  }

  Bits clear_next_ = 0, set_next_ = 0;
  std::size_t last_end_ = MarkedText::kNowhere;
};

}  // namespace tokpack::bpe
