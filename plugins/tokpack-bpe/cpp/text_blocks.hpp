// A text as blocks of 64 bytes, each with one bit per byte for every class that patterns ask about.
#pragma once

#include <algorithm>
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
    if (const std::uint64_t high = bytes.non_ascii(); (high | spilled_.continuation) != 0) [[unlikely]] {
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
    add(spilled_, block);
    high &= ~spilled_.continuation;
    spilled_ = Block{};
    while (high != 0) {
      const int place = std::countr_zero(high);
      const auto [point, length] = decode_padded(begin + static_cast<std::size_t>(place));
      const std::uint64_t all = (std::uint64_t{1} << length) - 1;
      Block character;
      const Class kind = class_of(point);
      const bool has_case = kind == Class::upper || kind == Class::lower;
      character.letter = has_case || kind == Class::letter ? all : 0;
      character.number = kind == Class::number ? all : 0;
      character.space = kind == Class::space ? all : 0;
      if constexpr (wanted.cases) {
        character.upper = kind == Class::upper ? all : 0;
        character.lower = kind == Class::lower ? all : 0;
        character.mark = kind == Class::mark ? all : 0;
      }
      character.continuation = all - 1;
      add(shifted(character, [place](std::uint64_t bits) { return bits << place; }), block);
      high &= ~(all << place);
      if (place + static_cast<int>(length) > 64) {
        spilled_ = shifted(character, [place](std::uint64_t bits) { return bits >> (64 - place); });
      }
    }
  }

  /// The character at `at`, of which no byte beyond the text is read.
  Character decode_padded(std::size_t at) const {
    if (at + 4 <= text_.size()) return decode(text_.data() + at);
    std::uint8_t copy[4] = {};
    std::memcpy(copy, text_.data() + at, text_.size() - at);
    return decode(copy);
  }

  template <class Shift>
  static Block shifted(const Block& character, Shift shift) {
    Block moved;
    moved.letter = shift(character.letter);
    moved.number = shift(character.number);
    moved.space = shift(character.space);
    moved.continuation = shift(character.continuation);
    if constexpr (wanted.cases) {
      moved.upper = shift(character.upper);
      moved.lower = shift(character.lower);
      moved.mark = shift(character.mark);
    }
    return moved;
  }

  static void add(const Block& more, Block& block) {
    block.letter |= more.letter;
    block.number |= more.number;
    block.space |= more.space;
    block.continuation |= more.continuation;
    if constexpr (wanted.cases) {
      block.upper |= more.upper;
      block.lower |= more.lower;
      block.mark |= more.mark;
    }
  }

  Text text_;
  std::size_t at_ = 0;
  Block spilled_;
  std::uint8_t tail_[64];
};

}  // namespace tokpack::bpe
