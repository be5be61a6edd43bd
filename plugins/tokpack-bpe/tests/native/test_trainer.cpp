// Random words through the trainer and through the rule written out; random texts through the word counts.
// Meant for builds with sanitizers: ctest, or run it by hand with a number of rounds.

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "naive_trainer.hpp"
#include "word_counts.hpp"

using namespace tokpack::bpe;

namespace {

void require(bool claim, const char* what, std::uint32_t seed) {
  if (claim) return;
  std::fprintf(stderr, "seed %u: %s\n", seed, what);
  std::exit(1);
}

void check_merges(std::uint32_t seed) {
  std::mt19937 random(seed);
  const auto below = [&](std::uint32_t n) { return random() % n; };
  const std::uint32_t letters = 1 + below(4);
  std::map<std::string, std::uint64_t> words;
  for (std::uint32_t i = below(12); i > 0; --i) {
    std::string word(1 + below(40), 'a');
    for (char& letter : word) letter = static_cast<char>('a' + 53 * below(letters));
    words[word] += std::uint64_t{1} << below(44);
  }
  TrainerOptions options;
  options.max_merges = below(120);
  options.tie_rule = below(2) == 0 ? TieRule::bytes : TieRule::hf;
  options.min_frequency = std::uint64_t{1} << below(20);
  if (below(3) == 0) options.max_token_bytes = 1 + below(12);
  require(trained_merges(words, options) == naive_merges(words, options), "merges differ", seed);
}

void check_counts(std::uint32_t seed) {
  std::mt19937 random(seed);
  WordCounter counter(Pattern::gpt2, {"<|x|>"});
  std::map<std::string, std::uint64_t> wanted;
  for (std::uint32_t i = random() % 40; i > 0; --i) {
    // Words of one letter each, so that what a word is needs no pre-tokenizer.
    std::string text;
    for (std::uint32_t words = random() % 30; words > 0; --words) {
      const std::string word(1 + random() % 40, "a1!"[random() % 3]);
      if (!text.empty() && text.back() == word[0]) continue;
      ++wanted[word];
      text += word;
      if (random() % 5 == 0) text += "<|x|>";
    }
    const std::string exact(text);  // its end is the end of the allocation
    counter.count({reinterpret_cast<const std::uint8_t*>(exact.data()), exact.size()});
  }
  WordCounter twice(Pattern::gpt2, {"<|x|>"});
  twice.add(counter);
  twice.add(counter);
  std::map<std::string, std::uint64_t> found;
  for (const CountedWord& word : twice.counts().words()) found[std::string(word.bytes)] += word.count;
  for (auto& [word, count] : wanted) count *= 2;
  require(found == wanted, "word counts differ", seed);
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint32_t rounds = argc > 1 ? static_cast<std::uint32_t>(std::atoi(argv[1])) : 2000;
  for (std::uint32_t seed = 0; seed < rounds; ++seed) {
    check_merges(seed);
    check_counts(seed);
  }
  std::printf("%u rounds, all equal\n", rounds);
}
