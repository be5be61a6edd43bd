// Code points, UTF-8 and character classes.
//
// All text in this engine is valid UTF-8: whoever calls it has checked (see `valid_utf8`).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tokpack::bpe {

using Text = std::span<const std::uint8_t>;

/// What a pattern can ask about a character. The numbers are those of scripts/unicode_classes.py.
enum class Class : std::uint8_t {
  other,        // controls, unassigned, private use
  upper,        // \p{Lu} \p{Lt}
  lower,        // \p{Ll}
  letter,       // \p{Lm} \p{Lo}
  mark,         // \p{M}
  number,       // \p{N}
  punctuation,  // \p{P}
  symbol,       // \p{S}
  space,        // \s
  end,          // no character: the end of the text
};

namespace tables {
#include "unicode_classes.inc"
}

/// Class of one code point; 128 code points share a page. Beyond the last code point it is `other`.
constexpr Class class_of(char32_t point) {
  if (point > 0x10FFFF) return Class::other;
  return static_cast<Class>(tables::kPageClasses[tables::kClassPage[point >> 7] * 128u + (point & 127u)]);
}

/// True for bytes that continue a multi-byte character.
constexpr bool is_continuation(std::uint8_t byte) { return (byte & 0xC0) == 0x80; }

/// Length in bytes of the character that begins with `lead`.
constexpr std::size_t character_length(std::uint8_t lead) {
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

struct Character {
  char32_t point;
  std::uint32_t length;  // bytes
};

/// Decode the character at `p`, all of whose bytes are readable.
constexpr Character decode(const std::uint8_t* p) {
  const auto low = [p](int i) { return static_cast<char32_t>(p[i] & 0x3F); };
  if (p[0] < 0x80) return {p[0], 1};
  if (p[0] < 0xE0) return {static_cast<char32_t>(p[0] & 0x1F) << 6 | low(1), 2};
  if (p[0] < 0xF0) return {static_cast<char32_t>(p[0] & 0x0F) << 12 | low(1) << 6 | low(2), 3};
  return {static_cast<char32_t>(p[0] & 0x07) << 18 | low(1) << 12 | low(2) << 6 | low(3), 4};
}

/// Decode the character at `at`; one that the text ends inside is as long as what is left, and no letter.
constexpr Character decode_at(Text text, std::size_t at) {
  const std::size_t left = text.size() - at;
  if (character_length(text[at]) > left) return {0, static_cast<std::uint32_t>(left)};
  return decode(text.data() + at);
}

/// Position of the first byte that is not part of valid UTF-8, or `text.size()`.
std::size_t valid_utf8(Text text);

}  // namespace tokpack::bpe
