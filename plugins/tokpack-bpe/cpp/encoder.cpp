#include "encoder.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>

namespace tokpack::bpe {

namespace {

constexpr std::size_t kBatch = 32;          // words whose cache lines are on their way at a time
constexpr std::size_t kWindowWords = 1024;  // words whose boundaries are listed at a time
constexpr std::size_t kTogether = 16;       // words that are merged in turns

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
  text_end_ = text.data() + text.size();
  gaps_.clear();
  marks_.resize(std::max(marks_.size(), mark_words(text.size())));
  mark_pretokens(pattern_, text, marks_.data());
  return encode_words(text, out);
}

/// Encode the words of a text whose boundaries are marked. A window of boundaries at a time; inside it, while
/// one batch of words is looked up, the cache lines of the next are fetched. Words that are not known leave gaps
/// among the ids, which are filled together at the end of the window.
template <class Id>
Id* Encoder<Id>::encode_words(Text text, Id* out) {
  using Entry = typename WordMemory<Id>::Entry;
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
    const auto word_at = [&](std::size_t i) TOKPACK_BPE_LAMBDA { return text.subspan(starts[i], starts[i + 1] - starts[i]); };
    const auto whole_batch = [&](std::size_t first) {
      return first + kBatch <= words && starts[first + kBatch - 1] < readable;
    };
    const auto fetch = [&](std::size_t first, std::size_t side) TOKPACK_BPE_LAMBDA {
      for (std::size_t i = 0; i < kBatch; ++i) {
        const std::uint32_t start = starts[first + i];
        keys[side][i] = ShortWords<Id>::key(data + start, starts[first + i + 1] - start);
        lines[side][i] = memory_.line(keys[side][i]);
      }
    };
    const auto look_up = [&](std::size_t first, std::size_t side) TOKPACK_BPE_LAMBDA {
      for (std::size_t i = 0; i < kBatch; ++i) {
        const Entry* const entry = ShortWords<Id>::find(lines[side][i], keys[side][i]);
        if (entry != nullptr) [[likely]] {
          out = memory_.emit(*entry, out);
        } else {
          const Text word = word_at(first + i);
          out = word.size() > ShortWords<Id>::kLongest ? encode_long(word, out) : leave_gap(word, out);
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
    for (; word < words; ++word) {
      const Text last = word_at(word);
      out = last.size() > ShortWords<Id>::kLongest ? encode_long(last, out) : encode_uncut(last, out);
    }
    out = close_gaps(out);
    begin = starts[words];
  }
  return out;
}

/// A word that is not among the short ones. Sentences in scripts without spaces come here: they are cut where no
/// token crosses, and the parts, which are often words, are looked up.
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
  if (Id* const end = memory_.find(word, text_end_, out)) return end;
  return leave_gap(word, out);
}

template <class Id>
Id* Encoder<Id>::leave_gap(Text word, Id* out) {
  gaps_.push_back({word, out, 0});
  return out + word.size();
}

/// Fill the gaps, take up what is left of them, and return where the ids end.
template <class Id>
Id* Encoder<Id>::close_gaps(Id* out) {
  if (gaps_.empty()) return out;
  fill_gaps();
  Id* end = gaps_[0].begin;
  for (std::size_t i = 0; i < gaps_.size(); ++i) {
    const Gap& gap = gaps_[i];
    const Id* const next = i + 1 < gaps_.size() ? gaps_[i + 1].begin : out;
    end = std::copy(gap.begin, gap.begin + gap.count, end);
    end = std::copy(static_cast<const Id*>(gap.begin + gap.word.size()), next, end);
  }
  gaps_.clear();
  return end;
}

/// Merge the words of all gaps, several in turns.
template <class Id>
void Encoder<Id>::fill_gaps() {
  const std::uint32_t* const ids = vocabulary_->ids();
  std::array<ShortMerge, kTogether> merges;
  std::array<Gap*, kTogether> gaps;
  std::size_t busy = 0;
  next_gap_ = 0;
  while (busy < kTogether && begin_next(merges[busy], gaps[busy])) ++busy;
  while (busy > 0) {
    for (std::size_t i = 0; i < busy;) {
      if (merges[i].advance(vocabulary_->merges())) {
        prefetch(&ids[merges[i].made()]);
        ++i;
        continue;
      }
      Id* const begin = gaps[i]->begin;
      Id* end = begin;
      for (std::uint64_t left = merges[i].places(); left != 0; left &= left - 1) {
        *end++ = static_cast<Id>(ids[merges[i].symbol_at(static_cast<std::size_t>(std::countr_zero(left)))]);
      }
      fill(*gaps[i], static_cast<std::size_t>(end - begin));
      if (begin_next(merges[i], gaps[i])) continue;
      if (i != --busy) {
        merges[i] = merges[busy];
        gaps[i] = gaps[busy];
      }
    }
    for (std::size_t i = 0; i < busy; ++i) merges[i].settle(vocabulary_->merges());
  }
}

/// Fill gaps until one is met whose word must be merged, and begin with that one. False if none is left.
template <class Id>
bool Encoder<Id>::begin_next(ShortMerge& merge, Gap*& gap) {
  while (next_gap_ < gaps_.size()) {
    Gap& next = gaps_[next_gap_++];
    Text word = next.word;
    if (word.size() <= WordMemory<Id>::kLongest) {
      Id ids[WordMemory<Id>::kRoom];
      if (const Id* const end = memory_.find(word, text_end_, ids)) {
        next.count = static_cast<std::size_t>(end - ids);
        std::copy(static_cast<const Id*>(ids), end, next.begin);
        continue;
      }
    }
    if (const std::uint32_t id = vocabulary_->unmerged(word); id != kNone) [[unlikely]] {
      *next.begin = static_cast<Id>(id);
      fill(next, 1);
      continue;
    }
    if (vocabulary_->drops_bytes()) [[unlikely]] {
      kept_bytes_.clear();
      std::copy_if(word.begin(), word.end(), std::back_inserter(kept_bytes_),
                   [this](std::uint8_t byte) { return vocabulary_->has_byte(byte); });
      word = kept_bytes_;
      if (word.empty()) {
        fill(next, 0);
        continue;
      }
    }
    if (word.size() <= kShortWord) {
      merge.begin(vocabulary_->merges(), word);
      gap = &next;
      return true;
    }
    fill(next, static_cast<std::size_t>(merge_long(word, next.begin) - next.begin));
  }
  return false;
}

template <class Id>
void Encoder<Id>::fill(Gap& gap, std::size_t count) {
  gap.count = count;
  if (gap.word.size() <= WordMemory<Id>::kLongest) memory_.insert(gap.word, text_end_, gap.begin, count);
}

template <class Id>
Id* Encoder<Id>::merge_long(Text word, Id* out) {
  const std::uint32_t* const ids = vocabulary_->ids();
  for (const Piece& piece : merger_.merge(vocabulary_->merges(), word)) *out++ = static_cast<Id>(ids[piece.symbol]);
  return out;
}

template class Encoder<std::uint16_t>;
template class Encoder<std::uint32_t>;

}  // namespace tokpack::bpe
