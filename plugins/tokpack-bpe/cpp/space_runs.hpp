// \s*[\r\n]+|\s+(?!\S)|\s+: white space up to its last new line, then all of it but the last character.
#pragma once

#include <cstddef>

#include "bits.hpp"
#include "marked_text.hpp"
#include "text_blocks.hpp"

namespace tokpack::bpe {

class SpaceRuns {
 public:
  /// Beginnings in `space`, the white space of the block that signs have not taken; `plain` is all of the block's
  /// that is no new line.
  TOKPACK_BPE_INLINE Bits starts(MarkedText& in, const Block& block, const Block& next, Bits space, Bits plain) {
    const Bits after_space = before_space_(space);
    const Bits last_space = plain & ~(block.space >> 1 | next.space << 63);
    const Bits starts = in.first_bytes(last_space, block.continuation) | (space & ~after_space);
    if (unsettled_ != MarkedText::kNowhere) [[unlikely]] {
      settle(in, block.newline, plain);
    }
    // After the last new line of a run, what is left of it is on its own.
    const Bits after_newline = plain & before_newline_(block.newline) & after_space;
    const Bits before_newline = plain & (block.newline >> 1 | next.newline << 63);
    if (before_newline == 0 && plain >> 63 == 0) [[likely]] {
      return starts | after_newline;
    }
    return starts | after_last_newline(in, after_newline, block.newline, plain);
  }

  /// Plain space at the end of the text, after a new line, is on its own.
  void finish(MarkedText& in) {
    if (unsettled_ != MarkedText::kNowhere) in.mark(unsettled_);
  }

 private:
  /// Of the places after a new line, those whose plain space is not followed by one.
  TOKPACK_BPE_NOINLINE Bits after_last_newline(const MarkedText& in, Bits after_newline, Bits newline, Bits plain) {
    Bits starts = 0;
    for (Bits left = after_newline; left != 0; left &= left - 1) {
      const std::size_t place = lowest(left);
      const Bits others = ~plain >> place << place;
      if (others == 0) {
        unsettled_ = in.begin + place;
      } else if ((newline >> lowest(others) & 1) == 0) {
        starts |= bit(place);
      }
    }
    return starts;
  }

  /// Decide on plain space that reached the end of an earlier block.
  void settle(MarkedText& in, Bits newline, Bits plain) {
    if (~plain == 0) return;
    if ((newline >> lowest(~plain) & 1) == 0) in.mark(unsettled_);
    unsettled_ = MarkedText::kNowhere;
  }

  Before before_space_, before_newline_;
  std::size_t unsettled_ = MarkedText::kNowhere;  // plain space after a new line that reached the end of its block
};

}  // namespace tokpack::bpe
