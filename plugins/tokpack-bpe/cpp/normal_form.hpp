// Unicode normalization form C, as Hugging Face's tokenizers does it.
#pragma once

#include <cstdint>
#include <vector>

#include "unicode.hpp"

namespace tokpack::bpe {

/// Put `text` into form C. Returns false, and leaves `out` alone, if it is in form C already for all that a
/// quick look can tell; otherwise replaces `out` by the result.
bool to_nfc(Text text, std::vector<std::uint8_t>& out);

}  // namespace tokpack::bpe
