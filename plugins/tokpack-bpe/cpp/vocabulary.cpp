#include "vocabulary.hpp"

#include <algorithm>

namespace tokpack::bpe {

namespace {

Text as_text(std::string_view bytes) { return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}; }

/// `bytes` as a message may show them.
std::string quoted(std::string_view bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text = "b'";
  for (const char c : bytes.substr(0, 40)) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (byte >= 0x20 && byte < 0x7F && c != '\'' && c != '\\') {
      text += c;
    } else {
      text += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    }
  }
  return text + (bytes.size() > 40 ? "'..." : "'");
}

/// Tokens by their bytes.
class TokenIndex {
 public:
  explicit TokenIndex(std::span<const Token> tokens) {
    by_bytes_.reserve(tokens.size());
    std::unordered_map<std::uint32_t, std::string_view> owners;
    owners.reserve(tokens.size());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const auto& [bytes, id] = tokens[i];
      if (bytes.empty()) throw VocabularyError("token " + std::to_string(id) + " is empty");
      if (id > kMaxId) {
        throw VocabularyError("id " + std::to_string(id) + " of token " + quoted(bytes) + " is above " +
                              std::to_string(kMaxId));
      }
      if (!by_bytes_.try_emplace(bytes, i).second) throw VocabularyError("token " + quoted(bytes) + " occurs twice");
      if (const auto [owner, is_new] = owners.try_emplace(id, bytes); !is_new) {
        throw VocabularyError("id " + std::to_string(id) + " is given to " + quoted(owner->second) + " and to " +
                              quoted(bytes));
      }
    }
  }

  bool has(std::string_view bytes) const { return by_bytes_.contains(bytes); }

  /// Index of the token `bytes`, or `kNone`.
  std::size_t find(std::string_view bytes) const {
    const auto found = by_bytes_.find(bytes);
    return found == by_bytes_.end() ? kNone : found->second;
  }

 private:
  std::unordered_map<std::string_view, std::size_t> by_bytes_;
};

}  // namespace

void Vocabulary::set_bytes(std::span<const Token> tokens, MissingBytes missing) {
  for (const auto& [bytes, id] : tokens) {
    if (bytes.size() == 1) ids_[static_cast<std::uint8_t>(bytes[0])] = id;
    cuts_.add(bytes);
  }
  const auto absent = std::find(ids_.begin(), ids_.end(), kNone);
  drops_bytes_ = absent != ids_.end();
  if (drops_bytes_ && missing == MissingBytes::refuse) {
    const char byte = static_cast<char>(absent - ids_.begin());
    throw VocabularyError("the single byte " + quoted({&byte, 1}) + " is no token");
  }
}

void Vocabulary::check_symbol_count() const {
  if (ids_.size() > kMaxSymbols) {
    throw VocabularyError(std::to_string(ids_.size()) + " tokens take part in merging; the most is " +
                          std::to_string(kMaxSymbols));
  }
}

Vocabulary Vocabulary::from_ranks(std::span<const Token> tokens) {
  const TokenIndex index(tokens);
  Vocabulary made;
  made.set_bytes(tokens, MissingBytes::refuse);
  std::vector<Token> ranked;
  std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(ranked),
               [](const Token& token) { return token.bytes.size() > 1; });
  std::sort(ranked.begin(), ranked.end(), [](const Token& a, const Token& b) { return a.id < b.id; });
  for (const Token& token : ranked) made.ids_.push_back(token.id);
  made.check_symbol_count();

  const std::vector<std::size_t> unreached = made.merge_canonically(ranked);
  Merger merger;
  const bool reached_after_all = std::any_of(unreached.begin(), unreached.end(), [&](std::size_t i) {
    return merger.merge(made.merges_, as_text(ranked[i].bytes)).size() == 2;
  });
  if (reached_after_all) made.merge_every_split(ranked);
  made.note_unmerged(ranked);
  return made;
}

/// Of all pairs that join to a token, merging ever meets one: the last two symbols on the way to the token
/// when it is merged alone, since any text that holds its bytes takes the same way. So one pair per token is
/// enough, found with the lower tokens' pairs. Returns the tokens that these do not lead to.
std::vector<std::size_t> Vocabulary::merge_canonically(std::span<const Token> ranked) {
  merges_ = MergeTable(ranked.size());
  std::vector<std::size_t> unreached;
  Merger merger;
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    const auto& pieces = merger.merge(merges_, as_text(ranked[i].bytes));
    if (pieces.size() == 2) {
      merges_.insert(pieces[0].symbol, pieces[1].symbol, static_cast<Symbol>(256 + i));
    } else {
      unreached.push_back(i);
    }
  }
  return unreached;
}

/// Where a token is reached by way of higher ones, its pair is not known beforehand; every pair will do.
void Vocabulary::merge_every_split(std::span<const Token> ranked) {
  std::unordered_map<std::string_view, Symbol> symbols;
  for (std::size_t i = 0; i < ranked.size(); ++i) symbols.emplace(ranked[i].bytes, static_cast<Symbol>(256 + i));
  const auto symbol_of = [&](std::string_view bytes) -> Symbol {
    if (bytes.size() == 1) return static_cast<std::uint8_t>(bytes[0]);
    const auto found = symbols.find(bytes);
    return found == symbols.end() ? kNone : found->second;
  };
  struct Split {
    Symbol left, right, merged;
  };
  std::vector<Split> splits;
  for (const Token& token : ranked) {
    for (std::size_t cut = 1; cut < token.bytes.size(); ++cut) {
      const Symbol left = symbol_of(token.bytes.substr(0, cut));
      const Symbol right = symbol_of(token.bytes.substr(cut));
      if (left != kNone && right != kNone) splits.push_back({left, right, symbol_of(token.bytes)});
    }
  }
  merges_ = MergeTable(splits.size());
  for (const Split& split : splits) merges_.insert(split.left, split.right, split.merged);
}

Vocabulary Vocabulary::from_merges(std::span<const Token> tokens, std::span<const MergeRule> merges,
                                   bool whole_words, MissingBytes missing) {
  const TokenIndex index(tokens);
  Vocabulary made;
  made.set_bytes(tokens, missing);

  // A token that several merges lead to is several symbols with one id: a symbol also says its merge's rank.
  std::unordered_map<std::uint32_t, std::string_view> bytes_of;
  std::unordered_map<std::uint32_t, std::vector<Symbol>> symbols_of;
  for (const auto& [bytes, id] : tokens) {
    bytes_of.emplace(id, bytes);
    if (bytes.size() == 1) symbols_of[id] = {static_cast<std::uint8_t>(bytes[0])};
  }
  std::string joined;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const auto left = bytes_of.find(merges[rank].first);
    const auto right = bytes_of.find(merges[rank].second);
    const std::string where = "merge " + std::to_string(rank);
    if (left == bytes_of.end() || right == bytes_of.end()) throw VocabularyError(where + " names an unknown id");
    joined.assign(left->second).append(right->second);
    const std::size_t token = index.find(joined);
    if (token == kNone) throw VocabularyError(where + " makes " + quoted(joined) + ", which is no token");
    symbols_of[tokens[token].id].push_back(static_cast<Symbol>(made.ids_.size()));
    made.ids_.push_back(tokens[token].id);
  }
  made.check_symbol_count();

  const auto symbols = [&](std::uint32_t id) -> std::span<const Symbol> {
    const auto found = symbols_of.find(id);
    return found == symbols_of.end() ? std::span<const Symbol>() : found->second;
  };
  std::size_t pairs = 0;
  for (const auto& [left, right] : merges) pairs += symbols(left).size() * symbols(right).size();
  if (pairs > 4 * merges.size() + 1024) throw VocabularyError("too many merges lead to the same tokens");
  made.merges_ = MergeTable(pairs);
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    for (const Symbol left : symbols(merges[rank].first)) {
      for (const Symbol right : symbols(merges[rank].second)) {
        if (made.merges_.find(left, right) != kNone) {
          throw VocabularyError("merge " + std::to_string(rank) + " is listed twice");
        }
        made.merges_.insert(left, right, static_cast<Symbol>(256 + rank));
      }
    }
  }
  if (whole_words) made.note_unmerged(tokens);
  return made;
}

/// Remember the tokens that merging does not lead to, for the libraries that look whole words up first.
void Vocabulary::note_unmerged(std::span<const Token> tokens) {
  Merger merger;
  std::vector<std::uint32_t> ids;
  for (const auto& [bytes, id] : tokens) {
    if (bytes.size() == 1 || merger.merge(merges_, as_text(bytes)).size() == 1) continue;
    unmerged_words_.emplace_back(bytes);
    ids.push_back(id);
  }
  for (std::size_t i = 0; i < ids.size(); ++i) unmerged_.emplace(unmerged_words_[i], ids[i]);
}

std::vector<std::array<std::uint32_t, 3>> Vocabulary::rules() const {
  std::vector<std::array<Symbol, 3>> by_symbol;
  merges_.for_each([&](Symbol left, Symbol right, Symbol merged) { by_symbol.push_back({merged, left, right}); });
  std::sort(by_symbol.begin(), by_symbol.end());
  std::vector<std::array<std::uint32_t, 3>> rules;
  for (const auto& [merged, left, right] : by_symbol) rules.push_back({ids_[left], ids_[right], ids_[merged]});
  return rules;
}

std::uint32_t Vocabulary::unmerged_id(std::string_view word) const {
  const auto found = unmerged_.find(word);
  return found == unmerged_.end() ? kNone : found->second;
}

}  // namespace tokpack::bpe
