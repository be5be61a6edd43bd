#include "word_counts.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

namespace tokpack::bpe {

namespace {

static_assert(std::endian::native == std::endian::little, "short keys are masked as little-endian integers");

constexpr std::size_t kLongestShort = WordCounts::kReadableBytes - 1;
constexpr std::size_t kFirstSlots = 1 << 12;

struct Mask {
  std::uint64_t low;
  std::uint64_t high;
};

/// By length: which bits of the first 16 bytes belong to the word.
constexpr auto kMasks = [] {
  std::array<Mask, kLongestShort + 1> masks{};
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  for (std::size_t length = 1; length < masks.size(); ++length) {
    masks[length].low = kAll >> (length < 8 ? 64 - 8 * length : 0);
    masks[length].high = length <= 8 ? 0 : kAll >> (128 - 8 * length);
  }
  return masks;
}();

std::uint64_t mix(std::uint64_t x) {
  x = (x ^ x >> 32) * 0x9E3779B97F4A7C15u;
  return x ^ x >> 29;
}

std::uint64_t hash_of(std::uint64_t low, std::uint64_t high) {
  return mix(low * 0xE7037ED1A0B428DBu + std::rotl(high * 0xA0761D6478BD642Fu, 31));
}

std::uint64_t hash_of(std::string_view word) {
  std::uint64_t hash = word.size();
  for (std::size_t at = 0; at < word.size(); at += 16) {
    std::uint64_t block[2] = {};
    std::memcpy(block, word.data() + at, std::min<std::size_t>(16, word.size() - at));
    hash = hash_of(block[0] ^ hash, block[1]);
  }
  return hash;
}

/// Put the slots of a full table into one of twice the size.
template <class Slot, class HashOf>
void grow(std::vector<Slot>& slots, HashOf hash_of_slot) {
  std::vector<Slot> old(2 * slots.size());
  old.swap(slots);
  for (const Slot& slot : old) {
    if (slot.count == 0) continue;
    std::size_t at = hash_of_slot(slot) & (slots.size() - 1);
    while (slots[at].count != 0) at = (at + 1) & (slots.size() - 1);
    slots[at] = slot;
  }
}

}  // namespace

WordCounts::WordCounts() : short_slots_(kFirstSlots), long_slots_(kFirstSlots) {}

void WordCounts::add(std::string_view word, std::uint64_t count) {
  if (word.size() > kLongestShort) return add_long(word, count);
  std::array<char, kReadableBytes> padded{};
  std::copy(word.begin(), word.end(), padded.begin());
  add_readable({padded.data(), word.size()}, count);
}

void WordCounts::add_readable(std::string_view word, std::uint64_t count) {
  if (word.size() > kLongestShort) return add_long(word, count);
  ShortKey key;
  std::memcpy(&key, word.data(), sizeof key);
  const Mask& mask = kMasks[word.size()];
  add_short({key.low & mask.low, (key.high & mask.high) | std::uint64_t{word.size()} << 56}, count);
}

void WordCounts::add(const WordCounts& other) {
  for (const CountedWord& word : other.words()) add(word.bytes, word.count);
}

std::vector<CountedWord> WordCounts::words() const {
  std::vector<CountedWord> words;
  words.reserve(size());
  for (const ShortSlot& slot : short_slots_) {
    if (slot.count == 0) continue;
    words.push_back({{reinterpret_cast<const char*>(&slot.key), slot.key.high >> 56}, slot.count});
  }
  for (const LongSlot& slot : long_slots_) {
    if (slot.count != 0) words.push_back({bytes(slot), slot.count});
  }
  return words;
}

void WordCounts::add_short(ShortKey key, std::uint64_t count) {
  ShortSlot* slot = &find(key);
  if (slot->count == 0) {
    if (2 * ++num_short_ > short_slots_.size()) {
      grow(short_slots_, [](const ShortSlot& s) { return hash_of(s.key.low, s.key.high); });
      slot = &find(key);
    }
    slot->key = key;
  }
  slot->count += count;
}

void WordCounts::add_long(std::string_view word, std::uint64_t count) {
  const std::uint64_t hash = hash_of(word);
  LongSlot* slot = &find(hash, word);
  if (slot->count == 0) {
    if (2 * ++num_long_ > long_slots_.size()) {
      grow(long_slots_, [](const LongSlot& s) { return s.hash; });
      slot = &find(hash, word);
    }
    *slot = {hash, long_bytes_.size(), word.size(), 0};
    long_bytes_ += word;
  }
  slot->count += count;
}

WordCounts::ShortSlot& WordCounts::find(ShortKey key) {
  const std::size_t mask = short_slots_.size() - 1;
  std::size_t at = hash_of(key.low, key.high) & mask;
  for (;; at = (at + 1) & mask) {
    ShortSlot& slot = short_slots_[at];
    if (((slot.key.low ^ key.low) | (slot.key.high ^ key.high)) == 0 || slot.count == 0) return slot;
  }
}

WordCounts::LongSlot& WordCounts::find(std::uint64_t hash, std::string_view word) {
  const std::size_t mask = long_slots_.size() - 1;
  std::size_t at = hash & mask;
  for (;; at = (at + 1) & mask) {
    LongSlot& slot = long_slots_[at];
    if (slot.count == 0 || (slot.hash == hash && bytes(slot) == word)) return slot;
  }
}

std::string_view WordCounts::bytes(const LongSlot& slot) const {
  return std::string_view(long_bytes_).substr(slot.begin, slot.length);
}

WordCounter::WordCounter(Pattern pattern, std::vector<std::string> special_tokens)
    : pattern_(pattern), special_tokens_(std::move(special_tokens)) {}

void WordCounter::count(Text document) {
  const std::string_view text(reinterpret_cast<const char*>(document.data()), document.size());
  // Where each special token is found next; as none overlaps with another, the nearest is the one that counts.
  std::vector<std::size_t> next(special_tokens_.size(), 0);
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = text.size();
    std::size_t resume = end;
    for (std::size_t i = 0; i < special_tokens_.size(); ++i) {
      if (begin == 0 || next[i] < begin) next[i] = text.find(special_tokens_[i], begin);
      if (next[i] < end) {
        end = next[i];
        resume = end + special_tokens_[i].size();
      }
    }
    count_part(document.subspan(begin, end - begin));
    begin = resume;
  }
}

void WordCounter::add(const WordCounter& other) {
  counts_.add(other.counts_);
  total_ += other.total_;
}

void WordCounter::count_part(Text part) {
  if (part.empty()) return;
  const char* data = reinterpret_cast<const char*>(part.data());
  marks_.resize(std::max(marks_.size(), mark_words(part.size())));
  mark_pretokens(pattern_, part, marks_.data());
  marks_[0] &= ~std::uint64_t{1};  // the first word begins without being told

  std::size_t begin = 0;
  const auto word_ends = [&](std::size_t end) {
    const std::string_view word(data + begin, end - begin);
    if (begin + WordCounts::kReadableBytes <= part.size()) {
      counts_.add_readable(word);
    } else {
      counts_.add(word);
    }
    ++total_;
    begin = end;
  };
  for (std::size_t i = 0; i < mark_words(part.size()); ++i) {
    for (std::uint64_t marks = marks_[i]; marks != 0; marks &= marks - 1) {
      word_ends(64 * i + static_cast<std::size_t>(std::countr_zero(marks)));
    }
  }
  word_ends(part.size());
}

}  // namespace tokpack::bpe
