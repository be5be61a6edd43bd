#include "cuts.hpp"

#include <cstring>

#include "simd.hpp"

namespace tokpack::bpe {

namespace {

constexpr int kCharacterBits = 20;

std::uint64_t packed(const std::uint8_t* character, std::size_t length) {
  std::uint32_t word = 0;
  std::memcpy(&word, character, length);
  return word;
}

/// True if `bytes` are one whole character.
bool is_whole_character(std::string_view bytes) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(bytes[i]); };
  if (bytes.empty() || is_continuation(byte(0)) || character_length(byte(0)) != bytes.size()) return false;
  for (std::size_t i = 1; i < bytes.size(); ++i) {
    if (!is_continuation(byte(i))) return false;
  }
  return true;
}

}  // namespace

CutTable::CutTable() : adjacent_(1024), partial_(1024), characters_((std::size_t{1} << kCharacterBits) / 64) {}

std::size_t CutTable::bucket(const std::uint8_t* left, std::size_t left_length, const std::uint8_t* right,
                             std::size_t right_length) {
  const std::uint64_t both = packed(left, left_length) << 32 | packed(right, right_length);
  return hash_64(0, both) & ((std::size_t{1} << kCharacterBits) - 1);
}

void CutTable::add(std::string_view bytes) {
  const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
  for (std::size_t i = 1; i < bytes.size(); ++i) {
    const std::size_t pair = static_cast<std::size_t>(data[i - 1]) << 8 | data[i];
    set(adjacent_, pair);
    if (is_continuation(data[i])) continue;
    std::size_t begin = i - 1;
    while (begin > 0 && is_continuation(data[begin])) --begin;
    const std::size_t length = character_length(data[i]);
    if (is_whole_character(bytes.substr(begin, i - begin)) && is_whole_character(bytes.substr(i, length))) {
      set(characters_, bucket(data + begin, i - begin, data + i, length));
    } else {
      set(partial_, pair);
    }
  }
}

}  // namespace tokpack::bpe
