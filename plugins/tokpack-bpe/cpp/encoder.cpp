#include "encoder.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <stdexcept>

namespace tokpack::bpe {

namespace {

constexpr std::size_t kBatch = 32;          // words whose cache lines are on their way at a time
constexpr std::size_t kWindowWords = 1024;  // words whose boundaries are listed at a time
constexpr std::size_t kMaxSpill = std::size_t{1} << 20;

/// Append the positions of the set bits of `marks` to `out`. Writes up to 64 positions beyond the last.
TOKPACK_BPE_INLINE std::uint32_t* list_positions(std::uint64_t marks, std::uint32_t base, std::uint32_t* out) {
  constexpr int kUsual = 20;  // bits written without asking whether they are there
  const int count = std::popcount(marks);
  for (int i = 0; i < kUsual; ++i) {
    out[i] = base + static_cast<std::uint32_t>(std::countr_zero(marks | std::uint64_t{1} << 63));
    marks &= marks - 1;
  }
  for (int i = kUsual; i < count; ++i) {
    out[i] = base + static_cast<std::uint32_t>(std::countr_zero(marks));
    marks &= marks - 1;
  }
  return out + count;
}

}  // namespace

template <class Id>
Encoder<Id>::Encoder(std::shared_ptr<const Vocabulary> vocabulary, Pattern pattern)
    : vocabulary_(std::move(vocabulary)), pattern_(pattern) {}

template <class Id>
Id* Encoder<Id>::encode(Text text, Id* out) {
  if (text.empty()) return out;
  if (text.size() >= kNone - 64) throw std::length_error("a document has 4 GiB or more");
  marks_.resize(std::max(marks_.size(), mark_words(text.size())));
  mark_pretokens(pattern_, text, marks_.data());
  return encode_words(text, out);
}

/// Encode the words of a text whose boundaries are marked. A window of boundaries at a time; inside it, while
/// one batch of words is looked up, the cache lines of the next are fetched.
template <class Id>
Id* Encoder<Id>::encode_words(Text text, Id* out) {
  using Entry = typename ShortWords<Id>::Entry;
  std::array<std::uint32_t, kWindowWords + 128> starts;
  std::array<std::array<Vec16, kBatch>, 2> keys;
  std::array<std::array<Entry*, kBatch>, 2> lines;
  const std::uint8_t* const data = text.data();
  const std::size_t readable = text.size() < 16 ? 0 : text.size() - 15;  // starts at which 16 bytes can be read
  const std::size_t blocks = mark_words(text.size());
  std::uint32_t begin = 0;
  for (std::size_t block = 0; block < blocks;) {
    starts[0] = begin;
    std::uint32_t* end = starts.data() + 1;
    for (; block < blocks && end < starts.data() + kWindowWords; ++block) {
      std::uint64_t marks = marks_[block];
      if (block == 0) marks &= ~std::uint64_t{1};
      end = list_positions(marks, static_cast<std::uint32_t>(block * 64), end);
    }
    if (block == blocks) *end++ = static_cast<std::uint32_t>(text.size());
    const std::size_t words = static_cast<std::size_t>(end - starts.data()) - 1;
    const auto whole_batch = [&](std::size_t first) {
      return first + kBatch <= words && starts[first + kBatch - 1] < readable;
    };
    const auto fetch = [&](std::size_t first, std::size_t side) TOKPACK_BPE_LAMBDA {
      for (std::size_t i = 0; i < kBatch; ++i) {
        const std::uint32_t start = starts[first + i];
        keys[side][i] = ShortWords<Id>::key(data + start, starts[first + i + 1] - start);
        lines[side][i] = short_words_.line(keys[side][i]);
        prefetch(lines[side][i]);
      }
    };
    const auto look_up = [&](std::size_t first, std::size_t side) TOKPACK_BPE_LAMBDA {
      for (std::size_t i = 0; i < kBatch; ++i) {
        const Entry* const entry = ShortWords<Id>::find(lines[side][i], keys[side][i]);
        if (entry != nullptr) [[likely]] {
          out = entry->payload.template emit<ShortWords<Id>::kRoom>(spill_.data(), out);
        } else {
          const std::uint32_t start = starts[first + i];
          const Text word = text.subspan(start, starts[first + i + 1] - start);
          out = word.size() > ShortWords<Id>::kLongest ? encode_long(word, out)
                                                       : miss_short(word, keys[side][i], lines[side][i], out);
        }
      }
    };
    std::size_t word = 0;
    if (whole_batch(0)) {
      std::size_t side = 0;
      fetch(0, side);
      for (bool more = true; more; word += kBatch, side ^= 1) {
        more = whole_batch(word + kBatch);
        if (more) fetch(word + kBatch, side ^ 1);
        look_up(word, side);
      }
    }
    for (; word < words; ++word) out = encode_word(text.subspan(starts[word], starts[word + 1] - starts[word]), out);
    begin = starts[words];
  }
  return out;
}

/// One word, reading no byte beyond it.
template <class Id>
Id* Encoder<Id>::encode_word(Text word, Id* out) {
  if (word.size() > ShortWords<Id>::kLongest) return encode_long(word, out);
  const Vec16 key = ShortWords<Id>::key_at_end(word.data(), word.size());
  auto* const line = short_words_.line(key);
  if (const auto* const entry = ShortWords<Id>::find(line, key)) {
    return entry->payload.template emit<ShortWords<Id>::kRoom>(spill_.data(), out);
  }
  return miss_short(word, key, line, out);
}

template <class Id>
TOKPACK_BPE_NOINLINE Id* Encoder<Id>::miss_short(Text word, Vec16 key, typename ShortWords<Id>::Entry* line,
                                                 Id* out) {
  Id* const end = merge(word, out);
  ShortWords<Id>::insert(line, key, payload(out, static_cast<std::size_t>(end - out), ShortWords<Id>::kRoom));
  return end;
}

template <class Id>
Payload<Id> Encoder<Id>::payload(const Id* ids, std::size_t count, std::size_t room) {
  if (count <= Payload<Id>::kInline) return Payload<Id>::of(ids, count);
  if (spill_.size() + room > kMaxSpill) {
    short_words_.clear();
    medium_words_.clear();
    spill_.clear();
  }
  const auto place = static_cast<std::uint32_t>(spill_.size());
  spill_.insert(spill_.end(), ids, ids + count);
  spill_.resize(place + room);
  return Payload<Id>::spilled(place, count);
}

/// A word of more than 15 bytes. Sentences in scripts without spaces come here: they are cut where no token
/// crosses, and the parts, which are often words, are looked up.
template <class Id>
TOKPACK_BPE_NOINLINE Id* Encoder<Id>::encode_long(Text word, Id* out) {
  const std::uint8_t* const data = word.data();
  const std::size_t size = word.size();
  if (((data[1] | data[size / 2] | data[size - 1]) & 0x80) == 0) return encode_uncut(word, out);
  std::size_t part = 0;
  std::size_t left = 0;
  std::size_t left_length = character_length(data[0]);
  while (left + left_length < size) {
    const std::size_t right = left + left_length;
    const std::size_t right_length = character_length(data[right]);
    if (right + right_length > size) break;
    if (!vocabulary_->cuts().may_cross(data + left, left_length, data + right, right_length)) {
      out = encode_uncut(word.subspan(part, right - part), out);
      part = right;
    }
    left = right;
    left_length = right_length;
  }
  return encode_uncut(word.subspan(part), out);
}

template <class Id>
Id* Encoder<Id>::encode_uncut(Text word, Id* out) {
  if (word.size() <= ShortWords<Id>::kLongest) return encode_word(word, out);
  if (word.size() <= MediumWords<Id>::kLongest) return encode_medium(word, out);
  if (word.size() > LongWords<Id>::kLongest) return merge(word, out);
  const std::uint64_t hash = LongWords<Id>::hash(word);
  if (Id* const end = long_words_.find(word, hash, out)) return end;
  Id* const end = merge(word, out);
  long_words_.insert(word, hash, out, static_cast<std::size_t>(end - out));
  return end;
}

template <class Id>
Id* Encoder<Id>::encode_medium(Text word, Id* out) {
  const auto key = MediumWords<Id>::key(word.data(), word.size());
  auto* const line = medium_words_.line(key);
  if (const auto* const entry = MediumWords<Id>::find(line, key)) {
    return entry->payload.template emit<MediumWords<Id>::kRoom>(spill_.data(), out);
  }
  Id* const end = merge(word, out);
  MediumWords<Id>::insert(line, key, payload(out, static_cast<std::size_t>(end - out), MediumWords<Id>::kRoom));
  return end;
}

/// Ids of a word that no cache knows.
template <class Id>
Id* Encoder<Id>::merge(Text word, Id* out) {
  const std::uint32_t* const ids = vocabulary_->ids();
  if (const std::uint32_t id = vocabulary_->unmerged(word); id != kNone) [[unlikely]] {
    *out = static_cast<Id>(id);
    return out + 1;
  }
  if (vocabulary_->drops_bytes()) [[unlikely]] {
    kept_bytes_.clear();
    std::copy_if(word.begin(), word.end(), std::back_inserter(kept_bytes_),
                 [this](std::uint8_t byte) { return vocabulary_->has_byte(byte); });
    word = kept_bytes_;
    if (word.empty()) return out;
  }
  if (word.size() <= kShortWord) {
    Symbol symbols[kShortWord];
    std::uint64_t places = merge_short(vocabulary_->merges(), word.data(), word.size(), symbols);
    for (; places != 0; places &= places - 1) *out++ = static_cast<Id>(ids[symbols[std::countr_zero(places)]]);
    return out;
  }
  for (const Piece& piece : merger_.merge(vocabulary_->merges(), word)) *out++ = static_cast<Id>(ids[piece.symbol]);
  return out;
}

template class Encoder<std::uint16_t>;
template class Encoder<std::uint32_t>;

}  // namespace tokpack::bpe
