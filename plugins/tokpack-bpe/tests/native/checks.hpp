// What tests and fuzz targets check, against rules written out as simply as possible.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "decoder.hpp"
#include "engine.hpp"
#include "guarded.hpp"

#define CHECK(condition)                                                          \
  do {                                                                            \
    if (!(condition)) {                                                           \
      std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                               \
    }                                                                             \
  } while (false)

namespace tokpack::bpe {

inline constexpr Pattern kPatterns[] = {Pattern::gpt2,  Pattern::cl100k,    Pattern::llama3,  Pattern::qwen2,
                                        Pattern::o200k, Pattern::starcoder, Pattern::deepseek};

inline std::string_view view(Text text) { return {reinterpret_cast<const char*>(text.data()), text.size()}; }
inline Text text_of(std::string_view bytes) {
  return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
}

/// tiktoken's rule, with no table: join the two neighbours whose joined bytes have the lowest rank.
inline std::vector<std::uint32_t> naive_merge(const std::map<std::string, std::uint32_t>& ranks, Text word) {
  if (const auto whole = ranks.find(std::string(view(word))); whole != ranks.end()) return {whole->second};
  std::vector<std::string> parts;
  for (const std::uint8_t byte : word) parts.emplace_back(1, static_cast<char>(byte));
  for (;;) {
    std::size_t best = parts.size();
    std::uint32_t lowest = kNone;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = ranks.find(parts[i] + parts[i + 1]);
      if (found != ranks.end() && found->second < lowest) {
        lowest = found->second;
        best = i;
      }
    }
    if (best == parts.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  std::vector<std::uint32_t> ids;
  for (const std::string& part : parts) ids.push_back(ranks.at(part));
  return ids;
}

/// Every byte, and `extra` tokens with the ranks from 256 on.
inline std::map<std::string, std::uint32_t> ranks_with(const std::vector<std::string>& extra) {
  std::map<std::string, std::uint32_t> ranks;
  for (std::uint32_t byte = 0; byte < 256; ++byte) ranks[std::string(1, static_cast<char>(byte))] = byte;
  std::uint32_t rank = 256;
  for (const std::string& token : extra) ranks.try_emplace(token, rank++);
  return ranks;
}

inline std::vector<Token> tokens_of(const std::map<std::string, std::uint32_t>& ranks) {
  std::vector<Token> tokens;
  for (const auto& [bytes, rank] : ranks) tokens.push_back({bytes, rank});
  return tokens;
}

/// Pre-tokens cover the text without gaps, whatever its bytes, and no byte beyond it is read. For valid text the
/// fast way finds what the reference finds.
inline void check_pretokens(Text bytes) {
  for (const bool at_end : {true, false}) {
    const Guarded memory(bytes, at_end);
    const Text text = memory.bytes();
    const bool valid = valid_utf8(text) == text.size();
    for (const Pattern pattern : kPatterns) {
      std::vector<std::uint64_t> fast(mark_words(text.size())), one_by_one(mark_words(text.size()));
      mark_pretokens(pattern, text, fast.data());
      if (!text.empty()) CHECK((fast[0] & 1) != 0 || !valid);
      if (!valid && pattern != Pattern::deepseek) continue;
      for (std::size_t at = 0; at < text.size();) {
        one_by_one[at / 64] |= std::uint64_t{1} << (at % 64);
        const std::size_t end = pretoken_end(pattern, text, at);
        CHECK(end > at && end <= text.size());
        at = end;
      }
      CHECK(fast == one_by_one);
    }
  }
}

/// All that is encoded is decoded again, by 16 bits and by 32, and each word merges as the rule says.
inline void check_encoding(const std::map<std::string, std::uint32_t>& ranks, Text bytes) {
  const std::vector<Token> tokens = tokens_of(ranks);
  const auto vocabulary = std::make_shared<const Vocabulary>(Vocabulary::from_ranks(tokens));
  const Decoder decoder(tokens);
  const Guarded memory(bytes);
  const Text text = memory.bytes();
  for (const Pattern pattern : {Pattern::gpt2, Pattern::cl100k}) {
    Encoder<std::uint16_t> narrow(vocabulary, pattern);
    Encoder<std::uint32_t> wide(vocabulary, pattern);
    std::vector<std::uint16_t> ids16(text.size() + Encoder<std::uint16_t>::kSlack);
    std::vector<std::uint32_t> ids32(text.size() + Encoder<std::uint32_t>::kSlack), again = ids32;
    ids16.resize(static_cast<std::size_t>(narrow.encode(text, ids16.data()) - ids16.data()));
    ids32.resize(static_cast<std::size_t>(wide.encode(text, ids32.data()) - ids32.data()));
    again.resize(static_cast<std::size_t>(wide.encode(text, again.data()) - again.data()));
    CHECK(std::equal(ids16.begin(), ids16.end(), ids32.begin(), ids32.end()));
    CHECK(again == ids32);  // now from the caches
    std::vector<std::uint8_t> decoded(decoder.size(std::span<const std::uint32_t>(ids32)));
    decoder.decode(std::span<const std::uint32_t>(ids32), decoded.data(), decoded.size());
    CHECK(std::equal(decoded.begin(), decoded.end(), text.begin(), text.end()));
    if (valid_utf8(text) != text.size()) continue;
    std::vector<std::uint32_t> expected;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = pretoken_end(pattern, text, at);
      const auto word = naive_merge(ranks, text.subspan(at, end - at));
      expected.insert(expected.end(), word.begin(), word.end());
      at = end;
    }
    CHECK(ids32 == expected);
  }
}

}  // namespace tokpack::bpe
