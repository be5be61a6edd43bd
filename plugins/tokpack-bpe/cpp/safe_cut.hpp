// Where a long document may be cut so that its parts can be encoded one after the other, or side by side.
#pragma once

#include <cstddef>
#include <span>

#include "added_tokens.hpp"
#include "unicode.hpp"

namespace tokpack::bpe {

/// The last place at which `text` may be cut so that both sides, encoded as documents of their own, give the
/// ids of the whole, whatever follows `text` and whatever the pattern; 0 if there is none.
///
/// Such places are before a single space and after a single new line that stand between other characters:
/// there every pattern ends a pre-token, and no character composes with one on the other side.
std::size_t last_safe_cut(Text text, std::span<const AddedTokens* const> added);

}  // namespace tokpack::bpe
