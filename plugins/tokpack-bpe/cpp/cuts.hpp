// Where a long pre-token may be cut before merging, without changing a single id.
//
// Chinese, Japanese and Thai are written without spaces, so their pre-tokens are whole sentences that no
// cache will see again. But a merge across a boundary needs a token that holds the bytes on both sides of
// it: where no token of the vocabulary does, the two sides can be encoded, and cached, on their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "unicode.hpp"

namespace tokpack::bpe {

class CutTable {
 public:
  CutTable();

  /// Note every boundary inside the token `bytes`.
  void add(std::string_view bytes);

  /// False only if no token crosses the boundary between two adjacent characters, the second of which
  /// begins at `right`. Both are whole and valid.
  bool may_cross(const std::uint8_t* left, std::size_t left_length, const std::uint8_t* right,
                 std::size_t right_length) const {
    const std::size_t bytes = static_cast<std::size_t>(left[left_length - 1]) << 8 | right[0];
    if (!test(adjacent_, bytes)) return false;
    return test(partial_, bytes) || test(characters_, bucket(left, left_length, right, right_length));
  }

 private:
  using Bits = std::vector<std::uint64_t>;

  static bool test(const Bits& bits, std::size_t at) { return bits[at >> 6] >> (at & 63) & 1; }
  static void set(Bits& bits, std::size_t at) { bits[at >> 6] |= std::uint64_t{1} << (at & 63); }
  static std::size_t bucket(const std::uint8_t* left, std::size_t left_length, const std::uint8_t* right,
                            std::size_t right_length);

  Bits adjacent_;    // byte pairs inside some token
  Bits partial_;     // byte pairs at a character boundary in a token that holds only a part of a neighbour
  Bits characters_;  // hashed pairs of whole characters inside some token
};

}  // namespace tokpack::bpe
