// The patterns, one character at a time: the reference that the fast path in pretokenizer.cpp must equal.

#include <algorithm>
#include <array>

#include "pretokenizer.hpp"

namespace tokpack::bpe {

namespace {

struct Seen {
  Class kind = Class::end;
  std::size_t length = 0;  // bytes; 0 at the end
};

constexpr bool is_letter(Class kind) {
  return kind == Class::upper || kind == Class::lower || kind == Class::letter;
}

/// [^\s\p{L}\p{N}]
constexpr bool is_mark_or_sign(Class kind) {
  return kind == Class::other || kind == Class::mark || kind == Class::punctuation || kind == Class::symbol;
}

constexpr bool is_newline(std::uint8_t byte) { return byte == '\n' || byte == '\r'; }

constexpr bool is_ascii_letter(std::uint8_t byte) { return (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z'; }

/// [一-龥぀-ゟ゠-ヿ], as DeepSeek isolates it.
constexpr bool is_isolated_cjk(char32_t point) {
  return (point >= 0x4E00 && point <= 0x9FA5) || (point >= 0x3040 && point <= 0x30FF);
}

/// The characters of one text. Two patterns cut a text into isolated pieces before anything else; for
/// their scanners, a character that belongs to the next piece looks like the end of the text.
template <Pattern pattern>
class Reader {
 public:
  explicit Reader(Text text) : text_(text) {}

  /// Byte at `at`, or 0 beyond the end.
  std::uint8_t byte(std::size_t at) const { return at < text_.size() ? text_[at] : 0; }

  bool at_cjk(std::size_t at) const {
    return at < text_.size() && is_isolated_cjk(decode_at(text_, at).point);
  }

  /// The character at `at`, whatever piece it is in.
  Seen see_any(std::size_t at) const {
    if (at >= text_.size()) return {};
    const auto [point, length] = decode_at(text_, at);
    return {class_of(point), length};
  }

  Seen see(std::size_t at) const {
    const Seen seen = see_any(at);
    if constexpr (pattern == Pattern::starcoder) {
      if (seen.kind == Class::number) return {};
    }
    if constexpr (pattern == Pattern::deepseek) {
      if (seen.kind == Class::number || at_cjk(at)) return {};
    }
    return seen;
  }

  /// End of the run of characters that begins at `at` and whose classes satisfy `belongs`.
  template <class Belongs>
  std::size_t run(std::size_t at, Belongs belongs) const {
    for (Seen seen = see(at); seen.length != 0 && belongs(seen.kind); seen = see(at)) at += seen.length;
    return at;
  }

  /// End of the run of new lines (or slashes, where `slash` says so) at `at`.
  std::size_t newlines(std::size_t at, bool slash = false) const {
    while (is_newline(byte(at)) || (slash && byte(at) == '/')) ++at;
    return at;
  }

  /// End of at most `most` number characters at `at`.
  std::size_t numbers(std::size_t at, int most) const {
    for (Seen seen = see_any(at); most-- > 0 && seen.kind == Class::number; seen = see_any(at)) {
      at += seen.length;
    }
    return at;
  }

 private:
  Text text_;
};

constexpr std::size_t kNone = 0;  // no pre-token ends where it begins, so 0 can say "does not match"

std::size_t contraction_length(std::uint8_t first, std::uint8_t second) {
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  const bool two = (first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
                   (first == 'l' && second == 'l');
  return two ? 3 : 0;
}

/// End of 's 't 're 've 'm 'll 'd at `at`.
template <class R>
std::size_t contraction(const R& text, std::size_t at) {
  if (text.byte(at) != '\'') return kNone;
  const std::size_t length = contraction_length(text.byte(at + 1), text.byte(at + 2));
  return length ? at + length : kNone;
}

/// The same in any case. The long s, U+017F, is another case of s.
template <class R>
std::size_t contraction_any_case(const R& text, std::size_t at) {
  if (text.byte(at) != '\'') return kNone;
  const std::uint8_t first = text.byte(at + 1);
  const std::uint8_t second = text.byte(at + 2);
  if (first == 0xC5 && second == 0xBF) return at + 3;
  // Bit 0x20 turns no other byte into one of these letters but their upper case.
  const std::size_t length = contraction_length(first | 0x20, second | 0x20);
  return length ? at + length : kNone;
}

enum class NewLines {
  ordinary,         // gpt2: white space like any other
  first,            // \s*[\r\n]+ before anything else
  first_if_inside,  // the same, unless white space reaches the end of the text: \s++$ takes it whole
};

/// White space at `at`: a run gives its last character to the word that follows.
template <class R>
std::size_t white_space(const R& text, std::size_t at, NewLines rule) {
  std::size_t end = at, last = at, after_newlines = kNone;
  for (Seen seen = text.see(end); seen.kind == Class::space; seen = text.see(end)) {
    last = end;
    end += seen.length;
    if (is_newline(text.byte(last))) after_newlines = end;
  }
  const bool at_end = text.see(end).kind == Class::end;
  if (rule == NewLines::first_if_inside && at_end) return end;
  if (rule != NewLines::ordinary && after_newlines != kNone) return after_newlines;
  return at_end || last == at ? end : last;
}

/// A run of characters of one kind: letters, numbers, or signs.
template <class R>
std::size_t same_kind(const R& text, std::size_t at, Class kind) {
  if (is_letter(kind)) return text.run(at, is_letter);
  if (kind == Class::number) return text.run(at, [](Class other) { return other == Class::number; });
  return text.run(at, is_mark_or_sign);
}

// '(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s
template <Pattern pattern>
std::size_t gpt2_end(const Reader<pattern>& text, std::size_t start) {
  if constexpr (pattern == Pattern::starcoder) {
    if (text.see_any(start).kind == Class::number) return start + text.see_any(start).length;
  }
  if (const std::size_t end = contraction(text, start)) return end;
  const std::size_t word = text.byte(start) == ' ' ? start + 1 : start;
  const Class kind = text.see(word).kind;
  if (kind != Class::space && kind != Class::end) return same_kind(text, word, kind);
  return white_space(text, start, NewLines::ordinary);
}

// '(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|white space
template <Pattern pattern>
std::size_t cl100k_end(const Reader<pattern>& text, std::size_t start) {
  constexpr int most_digits = pattern == Pattern::qwen2 ? 1 : 3;
  constexpr NewLines rule = pattern == Pattern::cl100k ? NewLines::first_if_inside : NewLines::first;
  if (const std::size_t end = contraction_any_case(text, start)) return end;
  const Seen first = text.see(start);
  if (is_letter(first.kind)) return text.run(start, is_letter);
  if (first.kind == Class::number) return text.numbers(start, most_digits);
  const std::size_t second = start + first.length;
  if (!is_newline(text.byte(start)) && is_letter(text.see(second).kind)) return text.run(second, is_letter);
  const std::size_t sign = text.byte(start) == ' ' ? second : start;
  if (is_mark_or_sign(text.see(sign).kind)) return text.newlines(text.run(sign, is_mark_or_sign));
  return white_space(text, start, rule);
}

constexpr bool may_be_upper(Class kind) {
  return kind == Class::upper || kind == Class::letter || kind == Class::mark;
}

constexpr bool may_be_lower(Class kind) {
  return kind == Class::lower || kind == Class::letter || kind == Class::mark;
}

/// Upper* Lower+, or where `upper_only` says so Upper+ Lower*; letters without case and marks are both.
template <class R>
std::size_t cased_word(const R& text, std::size_t at, bool upper_only) {
  std::size_t end = at, last_both = kNone;
  for (Seen seen = text.see(end); may_be_upper(seen.kind); seen = text.see(end)) {
    end += seen.length;
    if (seen.kind != Class::upper) last_both = end;
  }
  if (text.see(end).kind == Class::lower) return text.run(end, may_be_lower);
  if (upper_only) return end == at ? kNone : end;
  return last_both;
}

// [^\r\n\p{L}\p{N}]?Upper*Lower+(?i:'s|…)?|[^\r\n\p{L}\p{N}]?Upper+Lower*(?i:'s|…)?
// |\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
std::size_t o200k_end(const Reader<Pattern::o200k>& text, std::size_t start) {
  const Seen first = text.see(start);
  const std::size_t second = start + first.length;
  const bool may_lead = !is_letter(first.kind) && first.kind != Class::number && !is_newline(text.byte(start));
  for (const bool upper_only : {false, true}) {
    std::size_t end = may_lead ? cased_word(text, second, upper_only) : kNone;
    if (end == kNone) end = cased_word(text, start, upper_only);
    if (end == kNone) continue;
    const std::size_t contracted = contraction_any_case(text, end);
    return contracted ? contracted : end;
  }
  if (first.kind == Class::number) return text.numbers(start, 3);
  const std::size_t sign = text.byte(start) == ' ' ? second : start;
  if (is_mark_or_sign(text.see(sign).kind)) return text.newlines(text.run(sign, is_mark_or_sign), true);
  return white_space(text, start, NewLines::first);
}

constexpr bool is_sign(Class kind) { return kind == Class::punctuation || kind == Class::symbol; }

constexpr bool is_letter_or_mark(Class kind) { return is_letter(kind) || kind == Class::mark; }

// \p{N}{1,3}, then [一-龥぀-ゟ゠-ヿ]+, then between them
// [!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
std::size_t deepseek_end(const Reader<Pattern::deepseek>& text, std::size_t start) {
  if (const std::size_t end = text.numbers(start, 3); end != start) return end;
  if (text.at_cjk(start)) {
    std::size_t end = start;
    while (text.at_cjk(end)) end += text.see_any(end).length;
    return end;
  }
  const Seen first = text.see(start);
  const std::size_t second = start + first.length;
  if (is_sign(first.kind) && first.length == 1 && is_ascii_letter(text.byte(second))) {
    std::size_t end = second;
    while (is_ascii_letter(text.byte(end))) ++end;
    return end;
  }
  if (is_letter_or_mark(first.kind)) return text.run(start, is_letter_or_mark);
  const auto word_follows = [&](std::size_t at) { return is_letter_or_mark(text.see(at).kind); };
  if (!is_sign(first.kind) && !is_newline(text.byte(start)) && word_follows(second)) {
    return text.run(second, is_letter_or_mark);
  }
  const std::size_t sign = text.byte(start) == ' ' ? second : start;
  if (is_sign(text.see(sign).kind)) return text.newlines(text.run(sign, is_sign));
  if (first.kind == Class::space) return white_space(text, start, NewLines::first);
  // Nothing matches controls and unassigned characters; what lies between two matches is one piece.
  std::size_t end = second;
  for (Seen seen = text.see(end); seen.kind == Class::other; seen = text.see(end)) {
    if (word_follows(end + seen.length)) break;
    end += seen.length;
  }
  return end;
}

}  // namespace

std::size_t pretoken_end(Pattern pattern, Text text, std::size_t start) {
  switch (pattern) {
    case Pattern::gpt2: return gpt2_end(Reader<Pattern::gpt2>(text), start);
    case Pattern::starcoder: return gpt2_end(Reader<Pattern::starcoder>(text), start);
    case Pattern::cl100k: return cl100k_end(Reader<Pattern::cl100k>(text), start);
    case Pattern::llama3: return cl100k_end(Reader<Pattern::llama3>(text), start);
    case Pattern::qwen2: return cl100k_end(Reader<Pattern::qwen2>(text), start);
    case Pattern::o200k: return o200k_end(Reader<Pattern::o200k>(text), start);
    case Pattern::deepseek: return deepseek_end(Reader<Pattern::deepseek>(text), start);
  }
  return text.size();
}

}  // namespace tokpack::bpe
