// o200k's words: Upper*Lower+ or Upper+Lower*, where letters without case and marks are both.
#pragma once

#include <algorithm>
#include <cstddef>

#include "bits.hpp"
#include "marked_text.hpp"
#include "pretokenizer.hpp"
#include "text_blocks.hpp"

namespace tokpack::bpe {

class CaseWords {
 public:
  /// A capital after lower case begins a word (the caller marks it). After a caseless letter it does if that one
  /// counts as lower case: because lower case is before it, or because no lower case follows the capitals.
  TOKPACK_BPE_INLINE static Bits split(const MarkedText& in, Bits capital_after_uncased, Bits starts) {
    for (Bits left = capital_after_uncased; left != 0; left &= left - 1) {
      const std::size_t place = in.begin + lowest(left);
      if (lower_before(in, place, starts) || !goes_on(in, place)) starts |= bit(place);
    }
    return starts;
  }

  /// The marks that are part of words. A mark after a sign may be one of the signs instead.
  TOKPACK_BPE_NOINLINE Bits marks(const MarkedText& in, Bits mark) {
    Bits words = 0;
    for (Bits left = mark; left != 0;) {
      const std::size_t place = lowest(left);
      const std::size_t lead = in.lead_of(in.begin + place);
      // In bytes that are not valid UTF-8 a character may seem to end before `place`.
      const std::size_t after = std::max(lead + character_length(in.text[lead]), in.begin + place + 1);
      const std::size_t end = std::min<std::size_t>(after - in.begin, 64);
      const Bits bytes = (end == 64 ? ~Bits{0} : bit(end) - 1) & left;
      if (lead >= in.begin + place) last_in_word_ = is_in_word(in, lead);
      if (last_in_word_) words |= bytes;
      left &= ~bytes;
    }
    return words;
  }

 private:
  static bool lower_before(const MarkedText& in, std::size_t place, Bits starts) {
    while (place > 0) {
      place = in.lead_of(place - 1);
      const Class kind = in.class_at(place);
      if (kind == Class::lower) return true;
      if (kind != Class::letter && kind != Class::mark) return false;
      if ((place >= in.begin ? starts : in.marks[place / 64]) & bit(place)) return false;
    }
    return false;
  }

  static bool goes_on(const MarkedText& in, std::size_t place) {
    Class kind = Class::upper;
    while (kind == Class::upper && place < in.text.size()) {
      place += character_length(in.text[place]);
      kind = in.class_at(place);
    }
    return kind == Class::lower || kind == Class::letter || kind == Class::mark;
  }

  bool is_in_word(const MarkedText& in, std::size_t mark_place) {
    if (mark_place == 0) return true;
    switch (in.class_at(in.lead_of(mark_place - 1))) {
      case Class::mark: return last_in_word_;
      case Class::other: case Class::punctuation: case Class::symbol: break;
      default: return true;
    }
    // Only the whole pre-token tells, so it is scanned, from the last beginning that is known.
    if (mark_place >= token_end_) {
      token_begin_ = std::max(token_end_, in.last_mark());
      token_end_ = pretoken_end(Pattern::o200k, in.text, token_begin_);
      while (token_end_ <= mark_place) {
        token_begin_ = token_end_;
        token_end_ = pretoken_end(Pattern::o200k, in.text, token_begin_);
      }
    }
    const auto begins_word = [](Class kind) {
      return kind == Class::upper || kind == Class::lower || kind == Class::letter || kind == Class::mark;
    };
    const std::size_t second = token_begin_ + character_length(in.text[token_begin_]);
    return begins_word(in.class_at(token_begin_)) || begins_word(in.class_at(second));
  }

  std::size_t token_begin_ = 0, token_end_ = 0;  // of the pre-token that was scanned last
  bool last_in_word_ = false;                    // the last mark
};

}  // namespace tokpack::bpe
