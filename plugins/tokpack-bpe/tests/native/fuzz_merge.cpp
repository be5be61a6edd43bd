// A vocabulary and a text: before the first zero byte, tokens, each after its length; after it, the text.

#include <algorithm>

#include "checks.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::string> extra;
  std::size_t at = 0;
  while (at < size && data[at] != 0 && extra.size() < 500) {
    const std::size_t length = std::min<std::size_t>(data[at] % 24 + 2, size - at - 1);
    if (length > 1) extra.emplace_back(reinterpret_cast<const char*>(data + at + 1), length);
    at += length + 1;
  }
  // The rule written out is quadratic, so texts are kept short.
  const std::size_t begin = std::min(at + 1, size);
  tokpack::bpe::check_encoding(tokpack::bpe::ranks_with(extra), {data + begin, std::min<std::size_t>(size - begin, 600)});
  return 0;
}
