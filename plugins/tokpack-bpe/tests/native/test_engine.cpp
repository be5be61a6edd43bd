// The engine without Python: built with sanitizers, and run by CTest.

#include <random>
#include <thread>

#include "checks.hpp"
#include "normal_form.hpp"

namespace tokpack::bpe {
namespace {

const std::vector<std::string> kPieces = {
    "a", "the", " ", "  ", "\n", "\r\n", "\t", "'s", "'LL", "'", "1", "2345", "٣", "½", "é", "É", "ß", "ſ", "ǅ",
    "日本", "の", "한", "ก็", "e\xCC\x81", "\xCC\x88", "😀", "☃\xEF\xB8\x8F", ".", "/", "//\n", "(", "_", "=", "\xC2\xA0",
    "\xE3\x80\x80", "\xC2\x85", std::string(1, '\0'), "ABC", "aB", "x" , "abab", "----"};

std::string random_text(std::mt19937& draw, std::size_t pieces) {
  std::string text;
  while (pieces-- > 0) text += kPieces[draw() % kPieces.size()];
  return text;
}

std::string random_bytes(std::mt19937& draw, std::size_t size) {
  std::string bytes;
  while (size-- > 0) bytes += static_cast<char>(draw());
  return bytes;
}

std::map<std::string, std::uint32_t> random_ranks(std::mt19937& draw) {
  std::vector<std::string> extra;
  for (std::size_t i = 0; i < 60; ++i) {
    std::string token = random_text(draw, 1 + draw() % 4);
    if (i % 3 == 0) token = token.substr(0, 1 + draw() % token.size());  // parts of characters, too
    if (token.size() > 1) extra.push_back(token);
  }
  return ranks_with(extra);
}

void test_pretokens() {
  std::mt19937 draw(1);
  for (std::size_t i = 0; i < 400; ++i) {
    check_pretokens(text_of(random_text(draw, draw() % 150)));
    check_pretokens(text_of(random_bytes(draw, draw() % 200)));
  }
}

void test_encoding() {
  std::mt19937 draw(2);
  for (std::size_t i = 0; i < 5; ++i) {
    const auto ranks = random_ranks(draw);
    check_encoding(ranks, text_of(random_text(draw, 60)));
    check_encoding(ranks, text_of(random_bytes(draw, 200)));
    std::string repeated;
    const std::string unit = random_text(draw, 1 + draw() % 3);
    while (repeated.size() < 300) repeated += unit;
    check_encoding(ranks, text_of(repeated));
  }
}

/// Words of every length around the limits of caches and windows, with tokens longer than a window.
void test_long_words() {
  std::vector<std::string> extra;
  for (std::size_t size = 2; size <= 256; size *= 2) extra.push_back(std::string(size, 'a'));
  for (const char* token : {"ab", "ba", "aab", "bb", "abb"}) extra.push_back(token);
  const auto ranks = ranks_with(extra);
  std::mt19937 draw(3);
  for (const std::size_t size : {15, 16, 31, 32, 33, 63, 64, 65, 129, 200}) {
    check_encoding(ranks, text_of(std::string(size, 'a')));
    std::string mixed(size, 'a');
    for (char& letter : mixed) letter = draw() % 7 == 0 ? 'b' : 'a';
    check_encoding(ranks, text_of(mixed));
  }
}

/// Several callers, several threads in each call, one engine.
void test_threads() {
  std::mt19937 draw(4);
  const auto ranks = random_ranks(draw);
  const std::vector<Token> tokens = tokens_of(ranks);
  Model model{.vocabulary = std::make_shared<const Vocabulary>(Vocabulary::from_ranks(tokens)),
              .pattern = Pattern::o200k,
              .nfc = true,
              .raw_tokens = AddedTokens({{"<|end|>", 900, true}}),
              .normalized_tokens = AddedTokens({{"  ", 901, false}})};
  Engine<std::uint32_t> engine(std::move(model));
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < 500; ++i) texts.push_back(random_text(draw, draw() % 80) + "<|end|>");
  std::vector<Text> documents;
  for (const std::string& text : texts) documents.push_back(text_of(text));
  const auto alone = engine.encode(documents, SpecialPolicy::parse, 1);
  const auto total = static_cast<std::size_t>(alone.offsets.back());
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      const auto together = engine.encode(documents, SpecialPolicy::parse, 3);
      CHECK(together.offsets == alone.offsets);
      CHECK(std::equal(together.tokens.get(), together.tokens.get() + total, alone.tokens.get()));
    });
  }
  for (std::thread& caller : callers) caller.join();
  bool refused = false;
  try {
    (void)engine.encode(documents, SpecialPolicy::error, 3);
  } catch (const SpecialFoundError& found) {
    refused = found.document < documents.size();
  }
  CHECK(refused);
}

/// Both sides of a safe cut, encoded alone, are the whole.
void test_safe_cuts() {
  std::mt19937 draw(5);
  const auto ranks = random_ranks(draw);
  const std::vector<Token> tokens = tokens_of(ranks);
  for (const Pattern pattern : kPatterns) {
    Model model{.vocabulary = std::make_shared<const Vocabulary>(Vocabulary::from_ranks(tokens)),
                .pattern = pattern,
                .nfc = true,
                .raw_tokens = AddedTokens({{"e a", 900, false}}),
                .normalized_tokens = AddedTokens({{"the\nthe", 901, false}})};
    Engine<std::uint16_t> engine(std::move(model));
    for (std::size_t i = 0; i < 100; ++i) {
      const std::string text = random_text(draw, 40);
      const std::size_t cut = engine.last_safe_cut(text_of(text));
      const std::string left = text.substr(0, cut), right = text.substr(cut);
      const Text whole[] = {text_of(text)}, parts[] = {text_of(left), text_of(right)};
      const auto one = engine.encode(whole, SpecialPolicy::text, 1);
      const auto two = engine.encode(parts, SpecialPolicy::text, 1);
      CHECK(one.offsets[1] == two.offsets[2]);
      CHECK(std::equal(one.tokens.get(), one.tokens.get() + one.offsets[1], two.tokens.get()));
    }
  }
}

void test_normal_form_of_any_bytes() {
  std::mt19937 draw(6);
  std::vector<std::uint8_t> out;
  for (std::size_t i = 0; i < 4000; ++i) {
    const std::string bytes = i % 2 == 0 ? random_bytes(draw, draw() % 80) : random_text(draw, draw() % 40);
    const Guarded memory(text_of(bytes));
    to_nfc(memory.bytes(), out);
  }
}

}  // namespace
}  // namespace tokpack::bpe

int main() {
  using namespace tokpack::bpe;
  test_pretokens(); std::puts("pretokens"); std::fflush(stdout);
  test_encoding(); std::puts("encoding"); std::fflush(stdout);
  test_long_words(); std::puts("long_words"); std::fflush(stdout);
  test_threads(); std::puts("threads"); std::fflush(stdout);
  test_safe_cuts(); std::puts("safe_cuts"); std::fflush(stdout);
  test_normal_form_of_any_bytes(); std::puts("normal_form_of_any_bytes"); std::fflush(stdout);
  std::puts("all hold");
}
