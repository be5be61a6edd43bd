// The patterns as logic on bits, 64 bytes of text at a time.
//
// Where a pre-token begins follows from the classes of a few neighbouring bytes, so shifts and ANDs of class
// masks find nearly all beginnings at once. What depends on more, such as contractions, digits in threes or
// the last new line of white space, is rare and looked at one by one. pretokenizer_scalar.cpp says what is right.

#include "pretokenizer.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include "simd.hpp"
#include "text_blocks.hpp"

namespace tokpack::bpe {

namespace {

constexpr std::array<std::string_view, 7> kNames = {"gpt2",  "cl100k",    "llama3",  "qwen2",
                                                    "o200k", "starcoder", "deepseek"};

using Bits = std::uint64_t;

constexpr Bits bit(std::size_t place) { return Bits{1} << (place & 63); }

constexpr std::size_t lowest(Bits bits) { return static_cast<std::size_t>(std::countr_zero(bits)); }

/// The byte before each: moves a mask up by one, and keeps its last bit for the next block.
class Before {
 public:
  TOKPACK_BPE_INLINE Bits operator()(Bits bits) {
    const Bits moved = bits << 1 | carried_;
    carried_ = bits >> 63;
    return moved;
  }

 private:
  Bits carried_ = 0;
};

/// Length of the contraction whose apostrophe is at `at`, in lower or in any case; 0 if there is none.
std::size_t contraction(Text text, std::size_t at, bool any_case) {
  const auto byte = [&](std::size_t i) -> std::uint8_t { return i < text.size() ? text[i] : 0; };
  const std::uint8_t fold = any_case ? 0x20 : 0;
  const std::uint8_t first = byte(at + 1), second = byte(at + 2);
  if (any_case && first == 0xC5 && second == 0xBF) return 3;  // U+017F, the long s
  switch (first | fold) {
    case 's': case 't': case 'm': case 'd': return 2;
    case 'l': return (second | fold) == 'l' ? 3 : 0;
    case 'r': case 'v': return (second | fold) == 'e' ? 3 : 0;
    default: return 0;
  }
}

/// Finds the beginnings in one text, block by block.
template <Pattern pattern>
class Marker {
 public:
  Marker(Text text, Bits* marks) : text_(text), marks_(marks), blocks_(text) {}

  void run() {
    Block block = blocks_.next();
    const std::size_t count = mark_words(text_.size());
    for (std::size_t i = 0; i < count; ++i, begin_ += 64) {
      const Block next = blocks_.next();
      Bits starts = kGpt2 ? gpt2(block, next) : cl100k(block, next);
      starts = (starts & ~pending_clear_) | pending_set_;
      pending_clear_ = pending_set_ = 0;
      if constexpr (kO200k) {
        starts = join_contractions(block, starts);
        starts = split_cases(starts);
      } else {
        starts = split_contractions(block.apostrophe, starts);
      }
      marks_[i] = starts;
      block = next;
    }
    if (unsettled_ != kNowhere && pattern != Pattern::cl100k) mark(unsettled_);
    if (text_.size() % 64 != 0) marks_[count - 1] &= bit(text_.size()) - 1;
  }

 private:
  static constexpr bool kGpt2 = pattern == Pattern::gpt2 || pattern == Pattern::starcoder;
  static constexpr bool kO200k = pattern == Pattern::o200k;
  static constexpr Wanted kWanted{.newlines = !kGpt2, .cases = kO200k};
  static constexpr std::size_t kNowhere = ~std::size_t{0};

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
    return (words & ~after_blank) | numbers | runs | first_bytes(last_space, block.continuation);
  }

  // '(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|white space
  // and o200k, which has words of upper and lower case, and slashes among the new lines after signs.
  TOKPACK_BPE_INLINE Bits cl100k(const Block& block, const Block& next) {
    Bits word = block.letter;
    if constexpr (kO200k) {
      if (block.mark != 0) [[unlikely]] {
        word |= word_marks(block);
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

    Bits starts = word_starts | sign_starts | number_starts(block, next);
    if constexpr (kO200k) {
      word_ = word;
      capital_after_uncased_ = block.upper & before_uncased_(word & ~block.upper & ~block.lower);
      starts |= block.upper & before_lower_(block.lower);
    }
    return starts | white_space(block, next, block.space & ~absorbed, plain_space);
  }

  /// Every digit, or the first of every three.
  TOKPACK_BPE_INLINE Bits number_starts(const Block& block, const Block& next) {
    const Bits number = block.number;
    if constexpr (pattern == Pattern::qwen2) return number & ~block.continuation;
    const Bits run_starts = number & ~before_number_(number);
    const auto ahead = [&](int by) { return number >> by | next.number << (64 - by); };
    if ((number & ahead(1) & ahead(2) & ahead(3)) == 0 && digits_ == 0) [[likely]] {
      // Three bytes in a row at the most. A run that goes on in the next block is counted there.
      const int bytes = std::countl_one(number);
      if (bytes != 0) digits_ = std::popcount(~block.continuation >> (64 - bytes));
      return run_starts;
    }
    return number_starts_one_by_one(number, block.continuation, run_starts);
  }

  TOKPACK_BPE_NOINLINE Bits number_starts_one_by_one(Bits number, Bits continuation, Bits run_starts) {
    Bits starts = 0;
    for (Bits left = number & ~continuation; left != 0; left &= left - 1) {
      const Bits digit = left & -left;
      if ((run_starts & digit) != 0) digits_ = 0;
      if (digits_ % 3 == 0) starts |= digit;
      ++digits_;
    }
    if (number >> 63 == 0) digits_ = 0;
    return starts;
  }

  /// \s*[\r\n]+|\s+(?!\S)|\s+ on the white space that signs have not absorbed.
  TOKPACK_BPE_INLINE Bits white_space(const Block& block, const Block& next, Bits space, Bits plain_space) {
    const Bits after_space = before_space_(space);
    const Bits last_space = plain_space & ~(block.space >> 1 | next.space << 63);
    const Bits starts = first_bytes(last_space, block.continuation) | (space & ~after_space);
    if (unsettled_ != kNowhere) [[unlikely]] {
      settle(block.newline, plain_space);
    }
    // After the last new line of a run, what is left of it is on its own.
    const Bits after_newline = plain_space & before_newline_(block.newline) & after_space;
    const Bits before_newline = plain_space & (block.newline >> 1 | next.newline << 63);
    if (before_newline == 0 && plain_space >> 63 == 0) [[likely]] {
      return starts | after_newline;
    }
    return starts | after_last_newline(after_newline, block.newline, plain_space);
  }

  /// Of the places after a new line, those whose plain space is not followed by one.
  TOKPACK_BPE_NOINLINE Bits after_last_newline(Bits after_newline, Bits newline, Bits plain_space) {
    Bits starts = 0;
    for (Bits left = after_newline; left != 0; left &= left - 1) {
      const std::size_t place = lowest(left);
      const Bits others = ~plain_space >> place << place;
      if (others == 0) {
        unsettled_ = begin_ + place;
      } else if ((newline >> lowest(others) & 1) == 0) {
        starts |= bit(place);
      }
    }
    return starts;
  }

  /// Decide on plain space that reached the end of an earlier block.
  void settle(Bits newline, Bits plain_space) {
    if (~plain_space == 0) return;
    if ((newline >> lowest(~plain_space) & 1) == 0) mark(unsettled_);
    unsettled_ = kNowhere;
  }

  /// First bytes of the characters whose last bytes are given; those in earlier blocks are marked there.
  TOKPACK_BPE_INLINE Bits first_bytes(Bits last, Bits continuation) {
    const Bits wide = last & continuation;
    if (wide == 0) [[likely]] {
      return last;
    }
    Bits first = last & ~wide;
    for (Bits left = wide; left != 0; left &= left - 1) {
      const std::size_t lead = lead_of(begin_ + lowest(left));
      if (lead >= begin_) {
        first |= bit(lead);
      } else {
        mark(lead);
      }
    }
    return first;
  }

  /// Of the given places, those after a multi-byte sign that begins a pre-token.
  Bits after_wide_sign(Bits places, Bits sign_starts) const {
    Bits after = 0;
    for (Bits left = places; left != 0; left &= left - 1) {
      const std::size_t place = begin_ + lowest(left);
      const std::size_t lead = lead_of(place - 1);
      if ((lead >= begin_ ? sign_starts : last_sign_starts_) & bit(lead)) after |= bit(place);
    }
    return after;
  }

  /// Contractions that begin a pre-token are one: gpt2 and cl100k.
  TOKPACK_BPE_INLINE Bits split_contractions(Bits apostrophe, Bits starts) {
    for (Bits left = apostrophe & starts; left != 0; left &= left - 1) {
      const std::size_t place = lowest(left);
      const std::size_t length = contraction(text_, begin_ + place, !kGpt2);
      if (length == 0) continue;
      starts = isolate(starts, place + 1, place + length);
      if (place + length < 64) left |= apostrophe & bit(place + length);
    }
    return starts;
  }

  /// Contractions after a word belong to it: o200k.
  TOKPACK_BPE_INLINE Bits join_contractions(const Block& block, Bits starts) {
    for (Bits left = block.apostrophe & before_contraction_(word_); left != 0; left &= left - 1) {
      const std::size_t place = lowest(left);
      // What follows a contraction is a new pre-token, to which an apostrophe belongs as its first sign.
      if (begin_ + place == contraction_end_) continue;
      const std::size_t length = contraction(text_, begin_ + place, true);
      if (length == 0) continue;
      starts = isolate(starts, place, place + length);
      contraction_end_ = begin_ + place + length;
    }
    return starts;
  }

  /// Clear the beginnings in [first, last), and set one at `last`. Both may reach into the next block.
  Bits isolate(Bits starts, std::size_t first, std::size_t last) {
    for (std::size_t place = first; place < last; ++place) {
      if (place < 64) {
        starts &= ~bit(place);
      } else {
        pending_clear_ |= bit(place);
      }
    }
    if (last < 64) return starts | bit(last);
    pending_set_ |= bit(last);
    return starts;
  }

  /// o200k: Upper*Lower+ or Upper+Lower*, where letters without case and marks are both. A capital after lower
  /// case begins a word (the caller has marked it). After a caseless letter it does if that one counts as lower
  /// case: because lower case is before it, or because no lower case follows the capitals.
  Bits split_cases(Bits starts) {
    for (Bits left = capital_after_uncased_; left != 0; left &= left - 1) {
      const std::size_t place = begin_ + lowest(left);
      if (lower_before(place, starts) || !word_goes_on(place)) starts |= bit(place);
    }
    return starts;
  }

  bool lower_before(std::size_t place, Bits starts) const {
    while (place > 0) {
      place = lead_of(place - 1);
      const Class kind = class_at(place);
      if (kind == Class::lower) return true;
      if (kind != Class::letter && kind != Class::mark) return false;
      if ((place >= begin_ ? starts : marks_[place / 64]) & bit(place)) return false;
    }
    return false;
  }

  bool word_goes_on(std::size_t place) const {
    Class kind = Class::upper;
    while (kind == Class::upper && place < text_.size()) {
      place += character_length(text_[place]);
      kind = class_at(place);
    }
    return kind == Class::lower || kind == Class::letter || kind == Class::mark;
  }

  /// o200k: the marks that are part of words. A mark after a sign may be one of the signs instead.
  TOKPACK_BPE_NOINLINE Bits word_marks(const Block& block) {
    Bits words = 0;
    for (Bits left = block.mark; left != 0;) {
      const std::size_t place = lowest(left);
      const std::size_t lead = lead_of(begin_ + place);
      // In bytes that are not valid UTF-8 a character may seem to end before `place`.
      const std::size_t after = std::max(lead + character_length(text_[lead]), begin_ + place + 1);
      const std::size_t end = std::min<std::size_t>(after - begin_, 64);
      const Bits bytes = (end == 64 ? ~Bits{0} : bit(end) - 1) & left;
      if (lead >= begin_ + place) mark_in_word_ = is_in_word(lead);
      if (mark_in_word_) words |= bytes;
      left &= ~bytes;
    }
    return words;
  }

  bool is_in_word(std::size_t mark_place) {
    if (mark_place == 0) return true;
    switch (class_at(lead_of(mark_place - 1))) {
      case Class::mark: return mark_in_word_;
      case Class::other: case Class::punctuation: case Class::symbol: break;
      default: return true;
    }
    // Only the whole pre-token tells, so it is scanned, from the last beginning that is known.
    if (mark_place >= token_end_) {
      token_begin_ = std::max(token_end_, last_mark_before_block());
      token_end_ = pretoken_end(pattern, text_, token_begin_);
      while (token_end_ <= mark_place) {
        token_begin_ = token_end_;
        token_end_ = pretoken_end(pattern, text_, token_begin_);
      }
    }
    const auto begins_word = [](Class kind) {
      return kind == Class::upper || kind == Class::lower || kind == Class::letter || kind == Class::mark;
    };
    const std::size_t second = token_begin_ + character_length(text_[token_begin_]);
    return begins_word(class_at(token_begin_)) || begins_word(class_at(second));
  }

  std::size_t last_mark_before_block() const {
    for (std::size_t i = begin_ / 64; i-- > 0;) {
      if (marks_[i] != 0) return i * 64 + 63 - static_cast<std::size_t>(std::countl_zero(marks_[i]));
    }
    return 0;
  }

  std::size_t lead_of(std::size_t place) const {
    while (place > 0 && is_continuation(text_[place])) --place;
    return place;
  }

  Class class_at(std::size_t place) const {
    if (place >= text_.size() || place + character_length(text_[place]) > text_.size()) return Class::end;
    return class_of(decode(text_.data() + place).point);
  }

  void mark(std::size_t place) { marks_[place / 64] |= bit(place); }

  Text text_;
  Bits* marks_;
  TextBlocks<kWanted> blocks_;
  std::size_t begin_ = 0;  // of the current block

  // What the block before leaves to the current one.
  Before before_word_, before_sign_, before_number_, before_space_, before_blank_, before_newline_;
  Before before_free_sign_, before_sign_start_, before_plain_space_, before_continuation_;
  Before before_lower_, before_uncased_, before_contraction_;
  Bits absorbing_ = 0;                                // 1 if its end is among the new lines after a sign
  Bits last_sign_starts_ = 0;
  Bits pending_clear_ = 0, pending_set_ = 0;          // what contractions change in the next block
  int digits_ = 0;                                    // in the run of numbers at its end
  std::size_t unsettled_ = kNowhere;                  // plain space after a new line that reached its end
  std::size_t contraction_end_ = kNowhere;
  std::size_t token_begin_ = 0, token_end_ = 0;       // of the pre-token that was scanned last
  bool mark_in_word_ = false;                         // the last mark

  // What the steps for the current block hand on.
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
