// The training rule, word for word and slow: what the trainer is compared with.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "trainer.hpp"

namespace tokpack::bpe {

/// The merges as pairs of symbols, from words with their counts.
inline std::vector<Pair> naive_merges(const std::map<std::string, std::uint64_t>& words,
                                      const TrainerOptions& options) {
  std::vector<std::string> bytes;
  std::map<char, Symbol> symbol_of;
  for (const std::uint8_t byte : byte_of_symbol()) {
    symbol_of[static_cast<char>(byte)] = static_cast<Symbol>(bytes.size());
    bytes.emplace_back(1, static_cast<char>(byte));
  }
  std::vector<std::pair<std::vector<Symbol>, std::uint64_t>> spelled;
  for (const auto& [word, count] : words) {
    auto& symbols = spelled.emplace_back(std::vector<Symbol>{}, count).first;
    for (const char byte : word) symbols.push_back(symbol_of.at(byte));
  }
  const auto is_first = [&](Pair x, Pair y) {
    if (options.tie_rule == TieRule::hf) return x.key() < y.key();
    return std::pair(bytes[x.left], bytes[x.right]) > std::pair(bytes[y.left], bytes[y.right]);
  };
  std::vector<Pair> merges;
  while (merges.size() < options.max_merges) {
    std::map<std::uint64_t, std::uint64_t> counts;
    for (const auto& [symbols, count] : spelled) {
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i) counts[Pair{symbols[i], symbols[i + 1]}.key()] += count;
    }
    std::uint64_t most = 0;
    Pair best{};
    for (const auto& [key, count] : counts) {
      const Pair pair = Pair::of(key);
      if (bytes[pair.left].size() + bytes[pair.right].size() > options.max_token_bytes) continue;
      if (count > most || (count == most && is_first(pair, best))) {
        most = count;
        best = pair;
      }
    }
    if (most == 0 || most < options.min_frequency) break;
    merges.push_back(best);
    const auto made = static_cast<Symbol>(bytes.size());
    bytes.push_back(bytes[best.left] + bytes[best.right]);
    for (auto& [symbols, count] : spelled) {
      std::vector<Symbol> joined;
      for (std::size_t i = 0; i < symbols.size(); ++i) {
        const bool here = i + 1 < symbols.size() && Pair{symbols[i], symbols[i + 1]} == best;
        joined.push_back(here ? made : symbols[i]);
        i += here;
      }
      symbols = std::move(joined);
    }
  }
  return merges;
}

/// The same by the trainer itself.
inline std::vector<Pair> trained_merges(const std::map<std::string, std::uint64_t>& words,
                                        const TrainerOptions& options) {
  std::vector<CountedWord> counted;
  for (const auto& [word, count] : words) counted.push_back({word, count});
  std::vector<Pair> merges;
  for (const Merge& merge : train(counted, options)) merges.push_back(merge.pair);
  return merges;
}

}  // namespace tokpack::bpe
