#include "unicode.hpp"

#include <cstring>

namespace tokpack::bpe {

namespace {

/// Length of the valid character at `p`, or 0. Follows table 3-7 of the Unicode standard.
std::size_t valid_character(const std::uint8_t* p, std::size_t available) {
  const std::uint8_t lead = p[0];
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const std::size_t length = character_length(lead);
  if (length > available) return 0;
  const std::uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const std::uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (p[1] < low || p[1] > high) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if (!is_continuation(p[i])) return 0;
  }
  return length;
}

}  // namespace

std::size_t valid_utf8(Text text) {
  std::size_t i = 0;
  while (i < text.size()) {
    std::uint64_t word;
    if (i + 8 <= text.size() && (std::memcpy(&word, text.data() + i, 8), (word & 0x8080808080808080u) == 0)) {
      i += 8;
      continue;
    }
    const std::size_t length = valid_character(text.data() + i, text.size() - i);
    if (length == 0) return i;
    i += length;
  }
  return i;
}

}  // namespace tokpack::bpe
