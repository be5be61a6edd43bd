// The patterns as logic on bits, 64 bytes of text at a time.
//
// Where a pre-token begins follows from the classes of a few neighbouring bytes, so shifts and ANDs of class
// masks find nearly all beginnings at once. What depends on more, such as contractions, digits in threes or
// the last new line of white space, is rare and looked at one by one. pretokenizer_scalar.cpp says what is right.

#include "pretokenizer.hpp"

#include <algorithm>
#include <array>

#include "bits.hpp"
#include "case_words.hpp"
#include "contractions.hpp"
#include "marked_text.hpp"
#include "number_runs.hpp"
#include "space_runs.hpp"
#include "text_blocks.hpp"

namespace tokpack::bpe {

namespace {

constexpr std::array<std::string_view, 7> kNames = {"gpt2",  "cl100k",    "llama3",  "qwen2",
                                                    "o200k", "starcoder", "deepseek"};

/// Finds the beginnings in one text, block by block.
template <Pattern pattern>
class Marker {
 public:
  Marker(Text text, Bits* marks) : in_{text, marks}, blocks_(text) {}

  void run() {
    Block block = blocks_.next();
    const std::size_t size = in_.text.size(), count = mark_words(size);
    for (std::size_t i = 0; i < count; ++i, in_.begin += 64) {
      const Block next = blocks_.next();
      Bits starts = contractions_.continued(kGpt2 ? gpt2(block, next) : cl100k(block, next));
      if constexpr (kO200k) {
        starts = contractions_.join(in_, block.apostrophe & before_apostrophe_(word_), starts);
        starts = CaseWords::split(in_, capital_after_uncased_, starts);
      } else {
        starts = contractions_.split(in_, block.apostrophe, starts, !kGpt2);
      }
      in_.marks[i] = starts;
      block = next;
    }
    if constexpr (pattern != Pattern::cl100k) space_runs_.finish(in_);
    if (size % 64 != 0) in_.marks[count - 1] &= bit(size) - 1;
  }

 private:
  static constexpr bool kGpt2 = pattern == Pattern::gpt2 || pattern == Pattern::starcoder;
  static constexpr bool kO200k = pattern == Pattern::o200k;
  static constexpr Wanted kWanted{.newlines = !kGpt2, .cases = kO200k};

  // '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s
  TOKPACK_BPE_INLINE Bits gpt2(const Block& block, const Block& next) {
    const Bits sign = ~(block.letter | block.number | block.space);
    const Bits after_blank = before_blank_(block.blank);
    const Bits words = (block.letter & ~before_word_(block.letter)) | (sign & ~before_sign_(sign));
    const Bits runs = block.space & ~before_space_(block.space);
    Bits last_space = block.space & ~(block.space >> 1 | next.space << 63);
    Bits numbers;
    if constexpr (pattern == Pattern::starcoder) {
      // Every digit is a piece of its own, and white space before one is at the end of a piece.
      last_space &= ~(block.number >> 1 | next.number << 63);
      numbers = block.number & ~block.continuation;
    } else {
      numbers = block.number & ~before_number_(block.number) & ~after_blank;
    }
    return (words & ~after_blank) | numbers | runs | in_.first_bytes(last_space, block.continuation);
  }

  // '(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|white space
  // and o200k, which has words of upper and lower case, and slashes among the new lines after signs.
  TOKPACK_BPE_INLINE Bits cl100k(const Block& block, const Block& next) {
    Bits word = block.letter;
    if constexpr (kO200k) {
      if (block.mark != 0) [[unlikely]] {
        word |= case_words_.marks(in_, block.mark);
      }
    }
    Bits sign = ~(word | block.number | block.space);

    // New lines after signs belong to them: fill each run of new lines from where a sign is before one.
    const Bits tail = kO200k ? block.newline | block.slash : block.newline;
    const Bits seeds = (block.newline & before_sign_(sign)) | (tail & absorbing_);
    const Bits sum = tail + seeds;
    const Bits absorbed = ((sum ^ tail) | seeds) & tail;
    absorbing_ = sum < tail ? 1 : 0;
    if constexpr (kO200k) sign &= ~absorbed;

    // A word takes one character before it: white space, or a sign that begins a pre-token.
    const Bits plain_space = block.space & ~block.newline;
    const Bits sign_starts = sign & ~before_free_sign_(sign) & ~before_blank_(block.blank);
    const Bits after_sign_start = before_sign_start_(sign_starts);
    const Bits after_continuation = before_continuation_(block.continuation);
    Bits word_starts = word & ~before_word_(word) & ~before_plain_space_(plain_space) & ~after_sign_start;
    if (const Bits wide = word_starts & after_continuation) [[unlikely]] {
      word_starts &= ~after_wide_sign(wide, sign_starts);
    }
    last_sign_starts_ = sign_starts;

    Bits starts = word_starts | sign_starts | numbers(block, next);
    if constexpr (kO200k) {
      word_ = word;
      capital_after_uncased_ = block.upper & before_uncased_(word & ~block.upper & ~block.lower);
      starts |= block.upper & before_lower_(block.lower);
    }
    return starts | space_runs_.starts(in_, block, next, block.space & ~absorbed, plain_space);
  }

  /// Every digit, or the first of every three.
  TOKPACK_BPE_INLINE Bits numbers(const Block& block, const Block& next) {
    if constexpr (pattern == Pattern::qwen2) return block.number & ~block.continuation;
    return number_runs_.starts(block, next);
  }

  /// Of the given places, those after a multi-byte sign that begins a pre-token.
  Bits after_wide_sign(Bits places, Bits sign_starts) const {
    Bits after = 0;
    for (Bits left = places; left != 0; left &= left - 1) {
      const std::size_t place = in_.begin + lowest(left);
      const std::size_t lead = in_.lead_of(place - 1);
      if ((lead >= in_.begin ? sign_starts : last_sign_starts_) & bit(lead)) after |= bit(place);
    }
    return after;
  }

  MarkedText in_;
  TextBlocks<kWanted> blocks_;
  Contractions contractions_;
  NumberRuns number_runs_;
  SpaceRuns space_runs_;
  CaseWords case_words_;

  // What the block before leaves to the current one.
  Before before_word_, before_sign_, before_number_, before_space_, before_blank_;
  Before before_free_sign_, before_sign_start_, before_plain_space_, before_continuation_;
  Before before_lower_, before_uncased_, before_apostrophe_;
  Bits absorbing_ = 0;  // 1 if its end is among the new lines after a sign
  Bits last_sign_starts_ = 0;

  // What o200k's steps for the current block hand on.
  Bits word_ = 0, capital_after_uncased_ = 0;
};

template <Pattern pattern>
void mark_fast(Text text, Bits* marks) {
  Marker<pattern>(text, marks).run();
}

void mark_one_by_one(Pattern pattern, Text text, Bits* marks) {
  std::fill_n(marks, mark_words(text.size()), 0);
  for (std::size_t at = 0; at < text.size(); at = pretoken_end(pattern, text, at)) marks[at / 64] |= bit(at);
}

}  // namespace

std::optional<Pattern> pattern_named(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<Pattern>(found - kNames.begin());
}

std::string_view name_of(Pattern pattern) { return kNames[static_cast<std::size_t>(pattern)]; }

void mark_pretokens(Pattern pattern, Text text, std::uint64_t* marks) {
  if (text.empty()) return;
  switch (pattern) {
    case Pattern::gpt2: return mark_fast<Pattern::gpt2>(text, marks);
    case Pattern::cl100k: return mark_fast<Pattern::cl100k>(text, marks);
    case Pattern::llama3: return mark_fast<Pattern::llama3>(text, marks);
    case Pattern::qwen2: return mark_fast<Pattern::qwen2>(text, marks);
    case Pattern::o200k: return mark_fast<Pattern::o200k>(text, marks);
    case Pattern::starcoder: return mark_fast<Pattern::starcoder>(text, marks);
    case Pattern::deepseek: return mark_one_by_one(pattern, text, marks);
  }
}

}  // namespace tokpack::bpe
