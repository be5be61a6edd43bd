#include "normal_form.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace tokpack::bpe {

namespace {

struct Decomposition {
  char32_t composed;
  std::uint16_t first, count;  // of kDecomposed
};
struct CombiningClass {
  char32_t mark;
  std::uint8_t number;
};
struct Composition {
  char32_t first, second, composed;
};

#include "normal_form.inc"

// Hangul syllables are composed and decomposed by arithmetic (chapter 3.12 of the Unicode standard).
constexpr char32_t kSyllable = 0xAC00, kLead = 0x1100, kVowel = 0x1161, kTail = 0x11A7;
constexpr char32_t kLeads = 19, kVowels = 21, kTails = 28, kSyllables = kLeads * kVowels * kTails;

const Decomposition* decomposition(char32_t point) {
  const auto found = std::lower_bound(kDecompositions.begin(), kDecompositions.end(), point,
                                      [](const Decomposition& entry, char32_t p) { return entry.composed < p; });
  return found != kDecompositions.end() && found->composed == point ? &*found : nullptr;
}

/// 0 for a character that begins a sequence.
std::uint8_t combining_class(char32_t point) {
  const auto found = std::lower_bound(kCombiningClasses.begin(), kCombiningClasses.end(), point,
                                      [](const CombiningClass& entry, char32_t p) { return entry.mark < p; });
  return found != kCombiningClasses.end() && found->mark == point ? found->number : 0;
}

/// What two characters compose to, or 0.
char32_t composition(char32_t first, char32_t second) {
  if (first - kLead < kLeads && second - kVowel < kVowels) {
    return kSyllable + ((first - kLead) * kVowels + (second - kVowel)) * kTails;
  }
  const bool without_tail = first - kSyllable < kSyllables && (first - kSyllable) % kTails == 0;
  if (without_tail && second - kTail - 1 < kTails - 1) return first + (second - kTail);
  const auto before = [](const Composition& entry, const std::array<char32_t, 2>& pair) {
    return entry.first != pair[0] ? entry.first < pair[0] : entry.second < pair[1];
  };
  const auto found = std::lower_bound(kCompositions.begin(), kCompositions.end(), std::array{first, second}, before);
  const bool exact = found != kCompositions.end() && found->first == first && found->second == second;
  return exact ? found->composed : 0;
}

/// The characters that may not stand in form C, or not after some other one. All others begin a sequence.
class Unstable {
 public:
  Unstable() : bits_(0x110000 / 64) {
    for (const CombiningClass& entry : kCombiningClasses) set(entry.mark);
    for (const Composition& entry : kCompositions) set(entry.second);
    for (char32_t i = 0; i < kVowels; ++i) set(kVowel + i);
    for (char32_t i = 1; i < kTails; ++i) set(kTail + i);
    for (const Decomposition& entry : kDecompositions) {
      const auto is_composed = [&](const Composition& pair) { return pair.composed == entry.composed; };
      if (std::none_of(kCompositions.begin(), kCompositions.end(), is_composed)) set(entry.composed);
    }
  }
  bool has(char32_t point) const { return point <= 0x10FFFF && (bits_[point >> 6] >> (point & 63) & 1) != 0; }

 private:
  void set(char32_t point) { bits_[point >> 6] |= std::uint64_t{1} << (point & 63); }
  std::vector<std::uint64_t> bits_;
};

const Unstable& unstable() {
  static const Unstable characters;
  return characters;
}

/// Position of the next unstable character from `at` on, or the text's size. Sets `previous` to where the
/// character before it begins.
std::size_t next_unstable(Text text, std::size_t at, std::size_t& previous) {
  const Unstable& characters = unstable();
  previous = at;
  while (at < text.size()) {
    if (std::uint64_t word; at + 8 <= text.size()) {
      std::memcpy(&word, text.data() + at, 8);
      if ((word & 0x8080808080808080u) == 0) {
        previous = at + 7;
        at += 8;
        continue;
      }
    }
    const std::size_t length = character_length(text[at]);
    if (at + length > text.size()) return text.size();
    if (length > 1 && characters.has(decode(text.data() + at).point)) return at;
    previous = at;
    at += length;
  }
  return at;
}

void append_utf8(char32_t point, std::vector<std::uint8_t>& out) {
  const auto byte = [&](char32_t bits) { out.push_back(static_cast<std::uint8_t>(bits)); };
  if (point < 0x80) return byte(point);
  if (point < 0x800) {
    byte(0xC0 | point >> 6);
  } else {
    if (point < 0x10000) {
      byte(0xE0 | point >> 12);
    } else {
      byte(0xF0 | point >> 18);
      byte(0x80 | (point >> 12 & 0x3F));
    }
    byte(0x80 | (point >> 6 & 0x3F));
  }
  byte(0x80 | (point & 0x3F));
}

struct Ordered {
  char32_t point;
  std::uint8_t number;  // combining class
};

void append_decomposed(char32_t point, std::vector<Ordered>& out) {
  if (point - kSyllable < kSyllables) {
    const char32_t index = point - kSyllable;
    out.push_back({kLead + index / (kVowels * kTails), 0});
    out.push_back({kVowel + index / kTails % kVowels, 0});
    if (index % kTails != 0) out.push_back({kTail + index % kTails, 0});
  } else if (const Decomposition* const parts = decomposition(point)) {
    for (std::size_t i = 0; i < parts->count; ++i) {
      const char32_t part = kDecomposed[parts->first + i];
      out.push_back({part, combining_class(part)});
    }
  } else {
    out.push_back({point, combining_class(point)});
  }
}

/// Sort every run of marks by class; equal ones keep their order.
void order(std::vector<Ordered>& characters) {
  for (auto begin = characters.begin(); begin != characters.end();) {
    const auto is_mark = [](const Ordered& character) { return character.number != 0; };
    const auto end = std::find_if_not(begin, characters.end(), is_mark);
    std::stable_sort(begin, end, [](const Ordered& a, const Ordered& b) { return a.number < b.number; });
    begin = end == characters.end() ? end : end + 1;
  }
}

/// Compose in place: each character with the last one that begins a sequence, unless something between blocks it.
void compose(std::vector<Ordered>& characters) {
  std::size_t kept = 0;
  std::size_t starter = characters.size();
  for (std::size_t i = 0; i < characters.size(); ++i) {
    const Ordered next = characters[i];
    if (starter < kept) {
      const bool adjacent = starter + 1 == kept;
      const bool blocked = !adjacent && characters[kept - 1].number >= next.number;
      if (const char32_t composed = blocked ? 0 : composition(characters[starter].point, next.point)) {
        characters[starter].point = composed;
        continue;
      }
    }
    if (next.number == 0) starter = kept;
    characters[kept++] = next;
  }
  characters.resize(kept);
}

}  // namespace

bool to_nfc(Text text, std::vector<std::uint8_t>& out) {
  std::size_t begin = 0;
  std::size_t at = next_unstable(text, 0, begin);
  if (at == text.size()) return false;
  out.clear();
  std::size_t copied = 0;
  std::vector<Ordered> characters;
  const Unstable& unstable_characters = unstable();
  while (at < text.size()) {
    // From the character before, which is the first of its sequence, up to the first of the next sequence.
    out.insert(out.end(), text.begin() + static_cast<std::ptrdiff_t>(copied),
               text.begin() + static_cast<std::ptrdiff_t>(begin));
    characters.clear();
    std::size_t end = begin;
    while (end < text.size() && end + character_length(text[end]) <= text.size()) {
      const auto [point, length] = decode(text.data() + end);
      if (end > at && !unstable_characters.has(point)) break;
      append_decomposed(point, characters);
      end += length;
    }
    order(characters);
    compose(characters);
    for (const Ordered& character : characters) append_utf8(character.point, out);
    copied = end;
    at = next_unstable(text, end, begin);
  }
  out.insert(out.end(), text.begin() + static_cast<std::ptrdiff_t>(copied), text.end());
  return true;
}

}  // namespace tokpack::bpe
