#include "word_counts.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "simd.hpp"

namespace tokpack::bpe {

namespace {

static_assert(std::endian::native == std::endian::little, "short words are masked as little-endian integers");

constexpr std::size_t kFirstSlots = 1 << 12;

struct Mask {
  std::uint64_t low;
  std::uint64_t high;
};

/// By length: which bits of the first 16 bytes belong to the word.
constexpr auto kMasks = [] {
  std::array<Mask, ShortWord::kMaxBytes + 1> masks{};
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

std::uint64_t hash_of(ShortWord word) {
  return mix(word.low * 0xE7037ED1A0B428DBu + std::rotl(word.high * 0xA0761D6478BD642Fu, 31));
}

std::uint64_t hash_of(std::string_view word) {
  std::uint64_t hash = word.size();
  for (std::size_t at = 0; at < word.size(); at += 16) {
    std::array<std::uint64_t, 2> block{};
    std::memcpy(block.data(), word.data() + at, std::min<std::size_t>(16, word.size() - at));
    hash = hash_of({block[0] ^ hash, block[1]});
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

ShortWord ShortWord::of(std::string_view word) {
  std::array<char, sizeof(ShortWord)> padded{};
  std::copy(word.begin(), word.end(), padded.begin());
  return of_readable({padded.data(), word.size()});
}

ShortWord ShortWord::of_readable(std::string_view word) {
  ShortWord out;
  std::memcpy(&out, word.data(), sizeof out);
  const Mask& mask = kMasks[word.size()];
  return {out.low & mask.low, (out.high & mask.high) | std::uint64_t{word.size()} << 56};
}

WordCounts::WordCounts() : short_slots_(kFirstSlots), long_slots_(kFirstSlots) {}

void WordCounts::add(std::string_view word, std::uint64_t count) {
  if (word.size() > ShortWord::kMaxBytes) return add_long(word, count);
  const ShortWord key = ShortWord::of(word);
  add_short(key, hash_of(key), count);
}

void WordCounts::add(std::span<const ShortWord> words) {
  constexpr std::size_t kAtOnce = 32;
  std::array<std::uint64_t, kAtOnce> hashes;
  for (; !words.empty(); words = words.subspan(std::min(kAtOnce, words.size()))) {
    const auto some = words.first(std::min(kAtOnce, words.size()));
    for (std::size_t i = 0; i < some.size(); ++i) {
      hashes[i] = hash_of(some[i]);
      prefetch(&short_slots_[hashes[i] & (short_slots_.size() - 1)]);
    }
    for (std::size_t i = 0; i < some.size(); ++i) add_short(some[i], hashes[i], 1);
  }
}

void WordCounts::add(const WordCounts& other) {
  for (const CountedWord& word : other.words()) add(word.bytes, word.count);
}

std::vector<CountedWord> WordCounts::words() const {
  std::vector<CountedWord> words;
  words.reserve(size());
  for (const ShortSlot& slot : short_slots_) {
    if (slot.count != 0) words.push_back({slot.word.bytes(), slot.count});
  }
  for (const LongSlot& slot : long_slots_) {
    if (slot.count != 0) words.push_back({bytes(slot), slot.count});
  }
  return words;
}

void WordCounts::add_short(ShortWord word, std::uint64_t hash, std::uint64_t count) {
  ShortSlot* slot = &find(word, hash);
  if (slot->count == 0) {
    if (2 * ++num_short_ > short_slots_.size()) {
      grow(short_slots_, [](const ShortSlot& full) { return hash_of(full.word); });
      slot = &find(word, hash);
    }
    slot->word = word;
  }
  slot->count += count;
}

void WordCounts::add_long(std::string_view word, std::uint64_t count) {
  const std::uint64_t hash = hash_of(word);
  LongSlot* slot = &find(word, hash);
  if (slot->count == 0) {
    if (2 * ++num_long_ > long_slots_.size()) {
      grow(long_slots_, [](const LongSlot& full) { return full.hash; });
      slot = &find(word, hash);
    }
    *slot = {hash, long_bytes_.size(), word.size(), 0};
    long_bytes_ += word;
  }
  slot->count += count;
}

WordCounts::ShortSlot& WordCounts::find(ShortWord word, std::uint64_t hash) {
  const std::size_t mask = short_slots_.size() - 1;
  for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
    ShortSlot& slot = short_slots_[at];
    if (((slot.word.low ^ word.low) | (slot.word.high ^ word.high)) == 0 || slot.count == 0) return slot;
  }
}

WordCounts::LongSlot& WordCounts::find(std::string_view word, std::uint64_t hash) {
  const std::size_t mask = long_slots_.size() - 1;
  for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
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
    if (word.size() > ShortWord::kMaxBytes) {
      counts_.add(word);
    } else {
      const bool readable = begin + sizeof(ShortWord) <= part.size();
      pending_[num_pending_++] = readable ? ShortWord::of_readable(word) : ShortWord::of(word);
      if (num_pending_ == kPending) flush();
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
  flush();
}

void WordCounter::flush() {
  counts_.add(std::span(pending_).first(num_pending_));
  num_pending_ = 0;
}

}  // namespace tokpack::bpe
