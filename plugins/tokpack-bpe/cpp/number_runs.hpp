// \p{N}{1,3}: numbers in threes, counted in characters.
#pragma once

#include <bit>

#include "bits.hpp"
#include "text_blocks.hpp"

namespace tokpack::bpe {

class NumberRuns {
 public:
  /// The first of every three numbers.
  TOKPACK_BPE_INLINE Bits starts(const Block& block, const Block& next) {
    const Bits number = block.number;
    const Bits run_starts = number & ~before_(number);
    const auto ahead = [&](int by) { return number >> by | next.number << (64 - by); };
    if ((number & ahead(1) & ahead(2) & ahead(3)) == 0 && count_ == 0) [[likely]] {
      // Three bytes in a row at the most. A run that goes on in the next block is counted there.
      const int bytes = std::countl_one(number);
      if (bytes != 0) count_ = std::popcount(~block.continuation >> (64 - bytes));
      return run_starts;
    }
    return one_by_one(number, block.continuation, run_starts);
  }

 private:
  TOKPACK_BPE_NOINLINE Bits one_by_one(Bits number, Bits continuation, Bits run_starts) {
    Bits starts = 0;
    for (Bits left = number & ~continuation; left != 0; left &= left - 1) {
      const Bits digit = left & -left;
      if ((run_starts & digit) != 0) count_ = 0;
      if (count_ % 3 == 0) starts |= digit;
      ++count_;
    }
    if (number >> 63 == 0) count_ = 0;
    return starts;
  }

  Before before_;
  int count_ = 0;  // in the run at the end of the block before
};

}  // namespace tokpack::bpe
