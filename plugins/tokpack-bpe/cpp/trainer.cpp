#include "trainer.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "trainer_words.hpp"

namespace tokpack::bpe {

std::array<std::uint8_t, 256> byte_of_symbol() {
  const auto prints = [](int byte) { return (byte > 32 && byte < 127) || (byte > 160 && byte != 173); };
  std::array<std::uint8_t, 256> bytes{};
  auto next = bytes.begin();
  for (const bool printing : {true, false}) {
    for (int byte = 0; byte < 256; ++byte) {
      if (prints(byte) == printing) *next++ = static_cast<std::uint8_t>(byte);
    }
  }
  return bytes;
}

namespace {

constexpr std::size_t kMergesBetweenProgress = 256;

/// A round goes at most this far down: a lower floor means fewer rounds, and more places that are never used.
constexpr std::uint64_t kFloorShare = 1024;

/// The bytes of every symbol.
class SymbolBytes {
 public:
  SymbolBytes() {
    for (const std::uint8_t byte : byte_of_symbol()) bytes_.emplace_back(1, static_cast<char>(byte));
  }

  Symbol count() const { return static_cast<Symbol>(bytes_.size()); }
  std::size_t length(Pair pair) const { return bytes_[pair.left].size() + bytes_[pair.right].size(); }
  void add(Pair pair) { bytes_.push_back(bytes_[pair.left] + bytes_[pair.right]); }

  bool less(Pair x, Pair y) const {
    const int order = bytes_[x.left].compare(bytes_[y.left]);
    return order != 0 ? order < 0 : bytes_[x.right] < bytes_[y.right];
  }

 private:
  std::vector<std::string> bytes_;
};

/// A pair whose places are known, in the order in which they stand in their words. Some may be stale.
struct TrackedPair {
  std::uint64_t count = 0;
  std::size_t first_place = 0;
  std::uint32_t places = 0;
};

/// Symbols met on one side of the pair that is being joined.
class Side {
 public:
  struct Met {
    std::uint64_t weight = 0;
    std::uint32_t places = 0;
    bool tracked = false;
    std::size_t next_place = 0;
  };
  struct Event {
    Symbol neighbour;
    Place place;
  };

  void resize(std::size_t symbols) { met_.resize(symbols); }
  Met& operator[](Symbol symbol) { return met_[symbol]; }

  void meet(Symbol neighbour, std::uint64_t weight, Place place) {
    Met& met = met_[neighbour];
    if (met.places++ == 0) neighbours_.push_back(neighbour);
    met.weight += weight;
    events_.push_back({neighbour, place});
  }

  const std::vector<Symbol>& neighbours() const { return neighbours_; }
  const std::vector<Event>& events() const { return events_; }

  void clear() {
    for (const Symbol neighbour : neighbours_) met_[neighbour] = {};
    neighbours_.clear();
    events_.clear();
  }

 private:
  std::vector<Met> met_;  // by symbol
  std::vector<Symbol> neighbours_;
  std::vector<Event> events_;
};

/// Training goes in rounds. A round tracks only the pairs that occur at least `floor_` times: pairs only ever
/// lose occurrences, and a new pair has all of its own when it is made, so no pair that matters is missed.
/// When none is left, the words are compacted, the floor is lowered and the pairs are counted afresh.
class Trainer {
 public:
  Trainer(std::span<const CountedWord> words, const TrainerOptions& options)
      : options_(options), words_(words) {
    options_.min_frequency = std::max<std::uint64_t>(1, options_.min_frequency);
  }

  std::vector<Merge> run(const MergeProgress& progress) {
    std::vector<Merge> merges;
    while (merges.size() < options_.max_merges) {
      if (heap_.empty() && !begin_round(options_.max_merges - merges.size())) break;
      const auto [count, pair] = pop();
      TrackedPair& tracked = *tracked_.find(pair);
      if (tracked.count != count) {  // it lost occurrences since it was pushed
        if (tracked.count >= floor_) push({tracked.count, pair});
        continue;
      }
      if (progress && merges.size() % kMergesBetweenProgress == 0) progress(merges.size());
      merges.push_back({pair, count});
      join(pair, std::exchange(tracked, {}));
    }
    if (progress) progress(merges.size());
    return merges;
  }

 private:
  struct Candidate {
    std::uint64_t count;
    Pair pair;
  };

  bool begin_round(std::size_t merges_left);
  void lower_floor(PairTable<TrackedPair>& all, std::size_t merges_left);
  void join(Pair pair, const TrackedPair& tracked);
  void settle(Side& side, auto old_pair, auto new_pair);
  void lose(Pair pair, std::uint64_t weight);

  bool may_join(Pair pair) const { return symbols_.length(pair) <= options_.max_token_bytes; }

  auto order() const {
    return [this](const Candidate& x, const Candidate& y) {
      if (x.count != y.count) return x.count < y.count;
      return options_.tie_rule == TieRule::hf ? x.pair.key() > y.pair.key() : symbols_.less(x.pair, y.pair);
    };
  }

  void push(Candidate candidate) {
    heap_.push_back(candidate);
    std::push_heap(heap_.begin(), heap_.end(), order());
  }

  Candidate pop() {
    std::pop_heap(heap_.begin(), heap_.end(), order());
    const Candidate best = heap_.back();
    heap_.pop_back();
    return best;
  }

  TrainerOptions options_;
  TrainerWords words_;
  SymbolBytes symbols_;
  std::uint64_t floor_ = std::numeric_limits<std::uint64_t>::max();
  PairTable<TrackedPair> tracked_;
  std::vector<Place> places_;    // of all tracked pairs
  std::vector<Candidate> heap_;  // counts may be out of date, never too small
  Side left_;
  Side right_;
};

/// Choose the floor of a round so that it is likely to be the last one: while it goes on, pairs that are frequent
/// now lose about half of their occurrences to others, and others as frequent are made.
void Trainer::lower_floor(PairTable<TrackedPair>& all, std::size_t merges_left) {
  std::vector<std::uint64_t> counts;
  all.for_each([&](Pair pair, const TrackedPair& seen) {
    if (may_join(pair)) counts.push_back(seen.count);
  });
  const std::uint64_t most = counts.empty() ? 0 : *std::max_element(counts.begin(), counts.end());
  floor_ = most / kFloorShare;
  if (merges_left < counts.size()) {
    const auto last = counts.begin() + static_cast<std::ptrdiff_t>(merges_left);
    std::nth_element(counts.begin(), last, counts.end(), std::greater<>());
    floor_ = std::max(floor_, *last / 2);
  }
  floor_ = std::max(floor_, options_.min_frequency);
}

/// False when no pair is left that may be joined.
bool Trainer::begin_round(std::size_t merges_left) {
  if (floor_ == options_.min_frequency) return false;  // the last round tracked every such pair
  words_.compact();
  PairTable<TrackedPair> all;
  words_.for_each_pair([&](Pair pair, Place place) {
    TrackedPair& seen = all[pair];
    seen.count += words_.weight(place);
    ++seen.places;
  });
  lower_floor(all, merges_left);

  tracked_ = PairTable<TrackedPair>();
  std::size_t places = 0;
  all.for_each([&](Pair pair, const TrackedPair& seen) {
    if (seen.count < floor_ || !may_join(pair)) return;
    tracked_[pair] = {seen.count, places, 0};
    places += seen.places;
    heap_.push_back({seen.count, pair});
  });
  std::make_heap(heap_.begin(), heap_.end(), order());
  places_.resize(places);
  words_.for_each_pair([&](Pair pair, Place place) {
    if (TrackedPair* tracked = tracked_.find(pair)) places_[tracked->first_place + tracked->places++] = place;
  });
  return !heap_.empty();
}

void Trainer::join(Pair pair, const TrackedPair& tracked) {
  constexpr std::size_t kAhead = 16;
  const Symbol made = symbols_.count();
  symbols_.add(pair);
  words_.add_symbol(pair);
  left_.resize(made + 1);
  right_.resize(made + 1);

  std::uint64_t in_runs = 0;
  std::vector<Place> runs;  // where `made` stands before `made`
  for (std::uint32_t i = 0; i < tracked.places; ++i) {
    const Place* place = &places_[tracked.first_place + i];
    if (i + kAhead < tracked.places) words_.fetch(place[kAhead].cell);
    const auto [cell, weight_class] = *place;
    if (!words_.stands(pair, cell)) continue;
    words_.join(pair, cell, made);
    const std::uint64_t weight = words_.weight(*place);
    const Symbol before = words_.before(cell);
    const Symbol after = words_.at(cell + words_.width(made));
    if (before == made) {
      // The made symbol before this one took `pair.left` for its neighbour.
      right_[pair.left].weight -= weight;
      in_runs += weight;
      runs.push_back({cell - words_.width(made), weight_class});
    } else if (before != kBoundary) {
      left_.meet(before, weight, {cell - words_.width(before), weight_class});
    }
    if (after != kBoundary) right_.meet(after, weight, {cell, weight_class});
  }
  settle(left_, [&](Symbol s) { return Pair{s, pair.left}; }, [&](Symbol s) { return Pair{s, made}; });
  settle(right_, [&](Symbol s) { return Pair{pair.right, s}; }, [&](Symbol s) { return Pair{made, s}; });
  if (in_runs != 0) {
    lose({pair.right, pair.left}, in_runs);
    const Pair twice{made, made};
    if (in_runs >= floor_ && may_join(twice)) {
      tracked_[twice] = {in_runs, places_.size(), static_cast<std::uint32_t>(runs.size())};
      places_.insert(places_.end(), runs.begin(), runs.end());
      push({in_runs, twice});
    }
  }
}

void Trainer::lose(Pair pair, std::uint64_t weight) {
  TrackedPair* tracked = tracked_.find(pair);
  if (tracked != nullptr && tracked->count != 0) tracked->count -= weight;
}

void Trainer::settle(Side& side, auto old_pair, auto new_pair) {
  for (const Symbol neighbour : side.neighbours()) {
    Side::Met& met = side[neighbour];
    lose(old_pair(neighbour), met.weight);
    const Pair pair = new_pair(neighbour);
    if (met.weight < floor_ || !may_join(pair)) continue;
    met.tracked = true;
    met.next_place = places_.size();
    tracked_[pair] = {met.weight, met.next_place, met.places};
    places_.resize(places_.size() + met.places);
    push({met.weight, pair});
  }
  for (const auto& [neighbour, place] : side.events()) {
    if (Side::Met& met = side[neighbour]; met.tracked) places_[met.next_place++] = place;
  }
  side.clear();
}

}  // namespace

std::vector<Merge> train(std::span<const CountedWord> words, const TrainerOptions& options,
                         const MergeProgress& progress) {
  return Trainer(words, options).run(progress);
}

}  // namespace tokpack::bpe
