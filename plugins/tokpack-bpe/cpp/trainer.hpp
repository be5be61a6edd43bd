// Byte-level BPE training: from distinct words with their counts to an ordered list of merges.
//
// The rule: start from single bytes; again and again join the adjacent pair of symbols that occurs most often.
// Every adjacent position counts, overlaps in a run included; a run is joined from left to right.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "pair_table.hpp"

namespace tokpack::bpe {

/// The byte of each of the symbols 0…255, in GPT-2's order: first the bytes that print, then the others.
/// Symbol 256 + i is what merge i makes.
std::array<std::uint8_t, 256> byte_of_symbol();

struct CountedWord {
  std::string_view bytes;
  std::uint64_t count;
};

/// Which of several equally frequent pairs is joined first.
enum class TieRule : std::uint8_t {
  bytes,  // the greater one, compared as two byte strings: the rule of CS336
  hf,     // the one with the smaller symbols: the order of Hugging Face's trainer
};

struct TrainerOptions {
  std::size_t max_merges = 0;
  TieRule tie_rule = TieRule::bytes;
  std::uint64_t min_frequency = 1;  // a rarer pair is never joined
  std::size_t max_token_bytes = std::numeric_limits<std::size_t>::max();
};

struct Merge {
  Pair pair;
  std::uint64_t count;  // how often the pair occurred when it was joined
};

/// Called now and then with the number of merges done; what it throws ends the training.
using MergeProgress = std::function<void(std::size_t)>;

/// Return at most `max_merges` merges, fewer if no pair is left that may be joined. The result depends on the
/// words as a multiset, not on their order.
///
/// Throws std::length_error when the distinct words have 4 GiB or more.
std::vector<Merge> train(std::span<const CountedWord> words, const TrainerOptions& options,
                         const MergeProgress& progress = {});

}  // namespace tokpack::bpe
