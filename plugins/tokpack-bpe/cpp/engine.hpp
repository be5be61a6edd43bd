// Whole documents, many at a time, from any number of threads.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "added_tokens.hpp"
#include "encoder.hpp"
#include "memory.hpp"
#include "pretokenizer.hpp"
#include "safe_cut.hpp"
#include "vocabulary.hpp"

namespace tokpack::bpe {

/// What a special token spelled in a document is.
enum class SpecialPolicy : std::uint8_t { text, parse, error };

/// A document spells a special token, and the policy is `error`.
class SpecialFoundError : public std::runtime_error {
 public:
  SpecialFoundError(const std::string& token, std::size_t document_index)
      : std::runtime_error(token), document(document_index) {}
  std::size_t document;
};

/// Everything that decides the ids of a text. Immutable and shared.
struct Model {
  std::shared_ptr<const Vocabulary> vocabulary;
  Pattern pattern;
  bool nfc = false;                  // text is put into normal form C first
  AddedTokens raw_tokens{{}};        // found in the text as it stands
  AddedTokens normalized_tokens{{}}; // found in what is left, after normalizing
};

/// Memory that grows; `Id` is uint16 or uint32.
template <class Id>
class TokenBuffer {
 public:
  /// Make room for `more` elements beyond the `size()` that are there, and return where they begin.
  Id* reserve(std::size_t more);
  void set_end(const Id* end) { size_ = static_cast<std::size_t>(end - data_.get()); }
  void clear() { size_ = 0; }
  std::size_t size() const { return size_; }
  const Id* data() const { return data_.get(); }
  /// Give the memory away, shrunk to its content.
  std::unique_ptr<Id[], FreeMemory> release();

 private:
  std::unique_ptr<Id[], FreeMemory> data_;
  std::size_t size_ = 0, capacity_ = 0;
};

/// One thread's part of an engine.
template <class Id>
class Worker {
 public:
  explicit Worker(std::shared_ptr<const Model> model)
      : model_(std::move(model)), encoder_(model_->vocabulary, model_->pattern) {}

  /// Append the ids of one document to `out`. Throws SpecialFoundError with document 0.
  void encode(Text document, SpecialPolicy policy, TokenBuffer<Id>& out);

 private:
  template <class EncodeRest>
  void encode_between(Text text, const AddedTokens& tokens, SpecialPolicy policy, TokenBuffer<Id>& out,
                      EncodeRest encode_rest);

  std::shared_ptr<const Model> model_;
  Encoder<Id> encoder_;
  std::vector<std::uint8_t> normal_form_;
};

/// Documents back to back: document i is tokens[offsets[i]] to tokens[offsets[i + 1]].
template <class Id>
struct Encoded {
  std::unique_ptr<Id[], FreeMemory> tokens;
  std::vector<std::int64_t> offsets;
};

/// Encodes batches. Safe to use from several threads, and in a child process after a fork: workers are taken
/// and given back by single atomic steps, so no lock can be left locked; one in use at a fork stays unused.
template <class Id>
class Engine {
 public:
  explicit Engine(Model model) : model_(std::make_shared<const Model>(std::move(model))) {}
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Encode every document on its own, with up to `threads` threads. Throws SpecialFoundError.
  Encoded<Id> encode(std::span<const Text> documents, SpecialPolicy policy, int threads);

  /// How many ids each document has.
  std::vector<std::int64_t> count(std::span<const Text> documents, SpecialPolicy policy);

  const Model& model() const { return *model_; }

  /// The last place at which `text` may be cut and the parts be encoded on their own with the same ids,
  /// whatever follows `text`; 0 if there is none.
  std::size_t last_safe_cut(Text text) const {
    const AddedTokens* const added[] = {&model_->raw_tokens, &model_->normalized_tokens};
    return bpe::last_safe_cut(text, added);
  }

  /// A worker for one call at a time, given back at the end of its life.
  class Lease {
   public:
    explicit Lease(Engine& engine);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Worker<Id>* operator->() const { return worker_.get(); }
    Worker<Id>* get() const { return worker_.get(); }

   private:
    Engine& engine_;
    std::unique_ptr<Worker<Id>> worker_;
  };

 private:
  Encoded<Id> encode_parallel(std::span<const Text> documents, SpecialPolicy policy, std::size_t threads);

  std::shared_ptr<const Model> model_;
  std::array<std::atomic<Worker<Id>*>, 64> idle_{};
};

extern template class Engine<std::uint16_t>;
extern template class Engine<std::uint32_t>;

}  // namespace tokpack::bpe
