// Vocabularies that contradict themselves: built or refused, never a crash, and usable where built.

#include <algorithm>

#include "checks.hpp"

using namespace tokpack::bpe;

namespace {

void use(Vocabulary vocabulary) {
  const auto shared = std::make_shared<const Vocabulary>(std::move(vocabulary));
  (void)shared->rules();
  Encoder<std::uint32_t> encoder(shared, Pattern::gpt2);
  const std::string text = "aaaa abab ba\n bbbb aabbaabb cab a b";
  std::vector<std::uint32_t> ids(text.size() + Encoder<std::uint32_t>::kSlack);
  CHECK(encoder.encode(text_of(text), ids.data()) <= ids.data() + text.size());
}

}  // namespace

/// Each token: a byte of length, its bytes, two bytes of id. A length of 255 ends them; then merges, two bytes each.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const bool all_bytes = data[0] & 1, whole_words = data[0] & 2;
  std::vector<std::string> bytes;
  std::vector<std::uint32_t> ids;
  for (std::uint32_t byte = 0; all_bytes && byte < 256; ++byte) {
    bytes.emplace_back(1, static_cast<char>(byte));
    ids.push_back(byte);
  }
  std::size_t at = 1;
  while (at < size && data[at] != 255) {
    const std::size_t length = std::min<std::size_t>(data[at] % 16, size - at - 1);
    bytes.emplace_back(reinterpret_cast<const char*>(data + at + 1), length);
    at += length + 1;
    ids.push_back(at + 2 <= size ? data[at] | data[at + 1] << 8 : 0xFFFFFFFF);
    at += 2;
  }
  std::vector<Token> tokens;
  for (std::size_t i = 0; i < bytes.size(); ++i) tokens.push_back({bytes[i], ids[i]});
  std::vector<MergeRule> rules;
  for (++at; at + 2 <= size && !ids.empty(); at += 2) {
    rules.push_back({ids[data[at] % ids.size()], ids[data[at + 1] % ids.size()]});
  }
  try {
    use(Vocabulary::from_ranks(tokens));
  } catch (const VocabularyError&) {
  }
  try {
    use(Vocabulary::from_merges(tokens, rules, whole_words, Vocabulary::MissingBytes::drop));
  } catch (const VocabularyError&) {
  }
  return 0;
}
