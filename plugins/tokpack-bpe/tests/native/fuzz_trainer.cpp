// libFuzzer: bytes → options and words → merges that must equal the rule written out.

#include <cstdint>
#include <cstdlib>

#include "naive_trainer.hpp"

using namespace tokpack::bpe;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4 || size > 600) return 0;
  TrainerOptions options;
  options.max_merges = data[0];
  options.tie_rule = data[1] % 2 == 0 ? TieRule::bytes : TieRule::hf;
  options.min_frequency = data[2] % 16;
  if (data[3] != 0) options.max_token_bytes = data[3];
  // Each word is its count, then bytes up to a zero.
  std::map<std::string, std::uint64_t> words;
  for (std::size_t at = 4; at < size;) {
    const std::uint64_t count = std::uint64_t{1} << data[at++] % 50;
    std::string word;
    while (at < size && data[at] != 0) word += static_cast<char>(data[at++]);
    ++at;
    if (!word.empty()) words[word] += count;
  }
  if (trained_merges(words, options) != naive_merges(words, options)) std::abort();
  return 0;
}
