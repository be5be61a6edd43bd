// A text as blocks of 64 bytes, each with one bit per byte for every class that patterns ask about.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd.hpp"
#include "unicode.hpp"

namespace tokpack::bpe {

/// Bit i is about byte i of the block. Every byte of a multi-byte character has the bits of the character.
/// Beyond the end of the text there is white space that is neither a blank nor a new line.
struct Block {
  std::uint64_t letter = 0;        // \p{L}
  std::uint64_t number = 0;        // \p{N}
  std::uint64_t space = 0;         // \s
  std::uint64_t newline = 0;       // \r or \n
  std::uint64_t blank = 0;         // U+0020
  std::uint64_t slash = 0;         // only where `Wanted::cases`
  std::uint64_t apostrophe = 0;
  std::uint64_t continuation = 0;  // bytes that are not the first of their character
  std::uint64_t upper = 0;         // \p{Lu} \p{Lt}, only where `Wanted::cases`
  std::uint64_t lower = 0;         // \p{Ll}, only where `Wanted::cases`
  std::uint64_t mark = 0;          // \p{M}, only where `Wanted::cases`
};

/// Which classes a pattern needs.
struct Wanted {
  bool newlines;
  bool cases;
};

/// Gives the blocks of a text one after the other, and blocks of white space after them.
template <Wanted wanted>
class TextBlocks {
 public:
  explicit TextBlocks(Text text) : text_(text) {
    const std::size_t rest = text.size() % 64;
    std::memset(tail_, 0, sizeof tail_);
    if (rest != 0) std::memcpy(tail_, text.data() + text.size() - rest, rest);
  }

  TOKPACK_BPE_INLINE Block next() {
    const std::size_t begin = at_;
    at_ += 64;
    if (begin >= text_.size()) {
      Block beyond;
      beyond.space = ~std::uint64_t{0};
      return beyond;
    }
    const bool whole = at_ <= text_.size();
    const Block64 bytes = Block64::load(whole ? text_.data() + begin : tail_);
    Block block;
    block.blank = bytes.equal(' ');
    block.space = block.blank | bytes.within('\t', 4);
    block.number = bytes.within('0', 9);
    block.apostrophe = bytes.equal('\'');
    if constexpr (wanted.newlines) block.newline = bytes.equal('\n') | bytes.equal('\r');
    if constexpr (wanted.cases) {
      block.upper = bytes.within('A', 25);
      block.lower = bytes.within('a', 25);
      block.letter = block.upper | block.lower;
      block.slash = bytes.equal('/');
    } else {
      block.letter = bytes.ascii_letters();
    }
    if (const std::uint64_t high = bytes.non_ascii(); (high | spilled_) != 0) [[unlikely]] {
      classify(high, begin, block);
    }
    if (!whole) {
      const std::uint64_t beyond = ~std::uint64_t{0} << (text_.size() - begin);
      for (std::uint64_t* bits : {&block.letter, &block.number, &block.upper, &block.lower, &block.mark,
                                  &block.continuation}) {
        *bits &= ~beyond;
      }
      block.space |= beyond;
    }
    return block;
  }

 private:
  /// Add the multi-byte characters that begin at bits of `high`, and what the last block left over.
  TOKPACK_BPE_NOINLINE void classify(std::uint64_t high, std::size_t begin, Block& block) {
    // By class, so that a character costs the same whatever it is.
    std::array<std::uint64_t, kClasses> bits{};
    bits[static_cast<std::size_t>(spilled_class_)] = spilled_;
    block.continuation = spilled_;
    high &= ~spilled_;
    spilled_ = 0;
    while (high != 0) {
      const int place = std::countr_zero(high);
      const auto [point, length] = decode_padded(begin + static_cast<std::size_t>(place));
      const Class kind = class_of(point);
      const std::uint64_t all = (std::uint64_t{1} << length) - 1;
      bits[static_cast<std::size_t>(kind)] |= all << place;
      block.continuation |= (all - 1) << place;
      high &= ~(all << place);
      if (place + static_cast<int>(length) > 64) {
        spilled_ = all >> (64 - place);
        spilled_class_ = kind;
      }
    }
    const auto of = [&](Class kind) { return bits[static_cast<std::size_t>(kind)]; };
    block.letter |= of(Class::upper) | of(Class::lower) | of(Class::letter);
    block.number |= of(Class::number);
    block.space |= of(Class::space);
    if constexpr (wanted.cases) {
      block.upper |= of(Class::upper);
      block.lower |= of(Class::lower);
      block.mark |= of(Class::mark);
    }
  }

  /// The character at `at`, of which no byte beyond the text is read.
  TOKPACK_BPE_INLINE Character decode_padded(std::size_t at) const {
    if (at + 4 <= text_.size()) [[likely]] {
      return decode(text_.data() + at);
    }
    std::uint8_t copy[4] = {};
    std::memcpy(copy, text_.data() + at, text_.size() - at);
    return decode(copy);
  }

  static constexpr std::size_t kClasses = static_cast<std::size_t>(Class::end) + 1;

  Text text_;
  std::size_t at_ = 0;
  std::uint64_t spilled_ = 0;  // bytes of a block that belong to the last character of the one before
  Class spilled_class_ = Class::other;
  std::uint8_t tail_[64];
};

}  // namespace tokpack::bpe
