#include "engine.hpp"

#include <algorithm>
#include <barrier>
#include <exception>
#include <thread>

#include "normal_form.hpp"

namespace tokpack::bpe {

namespace {

/// Documents that one thread takes at a time.
struct Task {
  std::size_t first, last;    // documents
  std::size_t worker = 0;     // whose buffer holds the ids
  std::size_t begin = 0;      // of the ids in that buffer
  std::size_t end = 0;
};

std::vector<Task> share_out(std::span<const Text> documents, std::size_t bytes_each) {
  std::vector<Task> tasks;
  std::size_t bytes = 0;
  for (std::size_t i = 0, first = 0; i < documents.size(); ++i) {
    bytes += documents[i].size();
    if (bytes >= bytes_each || i + 1 == documents.size()) {
      tasks.push_back({first, i + 1});
      first = i + 1;
      bytes = 0;
    }
  }
  return tasks;
}

std::size_t total_bytes(std::span<const Text> documents) {
  std::size_t total = 0;
  for (const Text document : documents) total += document.size();
  return total;
}

}  // namespace

template <class Id>
Id* TokenBuffer<Id>::reserve(std::size_t more) {
  if (size_ + more > capacity_) {
    const std::size_t wanted = std::max(size_ + more, capacity_ + capacity_ / 2);
    void* const grown = std::realloc(data_.get(), wanted * sizeof(Id));
    if (grown == nullptr) throw std::bad_alloc();
    (void)data_.release();
    data_.reset(static_cast<Id*>(grown));
    capacity_ = wanted;
  }
  return data_.get() + size_;
}

template <class Id>
std::unique_ptr<Id[], FreeMemory> TokenBuffer<Id>::release() {
  if (void* const shrunk = std::realloc(data_.get(), std::max<std::size_t>(size_, 1) * sizeof(Id))) {
    (void)data_.release();
    data_.reset(static_cast<Id*>(shrunk));
  }
  size_ = capacity_ = 0;
  return std::move(data_);
}

template <class Id>
void Worker<Id>::encode(Text document, SpecialPolicy policy, TokenBuffer<Id>& out) {
  encode_between(document, model_->raw_tokens, policy, out, [&](Text rest) {
    if (model_->nfc && to_nfc(rest, normal_form_)) rest = normal_form_;
    encode_between(rest, model_->normalized_tokens, policy, out, [&](Text plain) {
      out.set_end(encoder_.encode(plain, out.reserve(plain.size() + Encoder<Id>::kSlack)));
    });
  });
}

/// Write the ids of the added tokens in `text`, and call `encode_rest` for what lies between them.
template <class Id>
template <class EncodeRest>
void Worker<Id>::encode_between(Text text, const AddedTokens& tokens, SpecialPolicy policy, TokenBuffer<Id>& out,
                                EncodeRest encode_rest) {
  const bool concerned = tokens.has_ordinary() || (policy != SpecialPolicy::text && tokens.has_special());
  if (!concerned) return encode_rest(text);
  std::size_t begin = 0;
  for (std::size_t from = 0; from < text.size();) {
    const AddedTokens::Match match = tokens.find(text, from);
    from = match.end;
    if (match.token == nullptr) break;
    if (match.token->special && policy == SpecialPolicy::error) throw SpecialFoundError(match.token->bytes, 0);
    // As text, a special token still hides what other tokens begin inside it, and is not cut out.
    if (match.token->special && policy == SpecialPolicy::text) continue;
    if (match.begin > begin) encode_rest(text.subspan(begin, match.begin - begin));
    Id* const place = out.reserve(1);
    *place = static_cast<Id>(match.token->id);
    out.set_end(place + 1);
    begin = match.end;
  }
  if (begin < text.size()) encode_rest(text.subspan(begin));
}

template <class Id>
Engine<Id>::Lease::Lease(Engine& engine) : engine_(engine) {
  for (auto& slot : engine.idle_) {
    if (Worker<Id>* const idle = slot.exchange(nullptr)) {
      worker_.reset(idle);
      return;
    }
  }
  worker_ = std::make_unique<Worker<Id>>(engine.model_);
}

template <class Id>
Engine<Id>::Lease::~Lease() {
  for (auto& slot : engine_.idle_) {
    Worker<Id>* empty = nullptr;
    if (slot.compare_exchange_strong(empty, worker_.get())) {
      (void)worker_.release();
      return;
    }
  }
}

template <class Id>
Engine<Id>::~Engine() {
  for (auto& slot : idle_) delete slot.load();
}

template <class Id>
Encoded<Id> Engine<Id>::encode(std::span<const Text> documents, SpecialPolicy policy, int threads) {
  constexpr std::size_t kWorthAThread = std::size_t{1} << 18;  // bytes; less is done before a thread has begun
  const std::size_t bytes = total_bytes(documents);
  const std::size_t useful = std::min<std::size_t>(static_cast<std::size_t>(std::max(threads, 1)),
                                                   std::max<std::size_t>(bytes / kWorthAThread, 1));
  if (useful > 1) return encode_parallel(documents, policy, useful);

  const Lease worker(*this);
  TokenBuffer<Id> tokens;
  tokens.reserve(bytes / 3 + Encoder<Id>::kSlack);
  std::vector<std::int64_t> offsets(documents.size() + 1);
  for (std::size_t i = 0; i < documents.size(); ++i) {
    try {
      worker->encode(documents[i], policy, tokens);
    } catch (const SpecialFoundError& found) {
      throw SpecialFoundError(found.what(), i);
    }
    offsets[i + 1] = static_cast<std::int64_t>(tokens.size());
  }
  return {tokens.release(), std::move(offsets)};
}

template <class Id>
Encoded<Id> Engine<Id>::encode_parallel(std::span<const Text> documents, SpecialPolicy policy, std::size_t threads) {
  std::vector<Task> tasks = share_out(documents, std::max<std::size_t>(total_bytes(documents) / (threads * 16), 1 << 16));
  std::vector<TokenBuffer<Id>> buffers(threads);
  for (auto& buffer : buffers) buffer.reserve(total_bytes(documents) / (3 * threads) + Encoder<Id>::kSlack);
  std::vector<std::exception_ptr> failures(tasks.size());
  std::vector<std::int64_t> offsets(documents.size() + 1);
  std::unique_ptr<Id[], FreeMemory> joined;
  std::atomic<std::size_t> next_task{0};

  const auto encode_task = [&](Worker<Id>& worker, TokenBuffer<Id>& tokens, Task& task) {
    task.begin = tokens.size();
    for (std::size_t i = task.first; i < task.last; ++i) {
      const std::size_t before = tokens.size();
      try {
        worker.encode(documents[i], policy, tokens);
      } catch (const SpecialFoundError& found) {
        throw SpecialFoundError(found.what(), i);
      }
      offsets[i + 1] = static_cast<std::int64_t>(tokens.size() - before);
    }
    task.end = tokens.size();
  };
  // Lengths become offsets, and the result its memory, when all tasks are done and before any is copied.
  const auto lay_out = [&]() noexcept {
    for (std::size_t i = 0; i < documents.size(); ++i) offsets[i + 1] += offsets[i];
    const auto total = static_cast<std::size_t>(offsets.back());
    joined.reset(static_cast<Id*>(std::malloc(std::max<std::size_t>(total, 1) * sizeof(Id))));
    next_task = 0;
  };
  std::barrier everyone(static_cast<std::ptrdiff_t>(threads), lay_out);
  const auto work = [&](std::size_t self) {
    {
      const Lease worker(*this);
      for (std::size_t i; (i = next_task++) < tasks.size();) {
        tasks[i].worker = self;
        try {
          encode_task(*worker.get(), buffers[self], tasks[i]);
        } catch (...) {
          failures[i] = std::current_exception();
        }
      }
    }
    everyone.arrive_and_wait();
    if (joined == nullptr) return;
    for (std::size_t i; (i = next_task++) < tasks.size();) {
      const Id* const from = buffers[tasks[i].worker].data();
      if (failures[i] == nullptr) std::copy(from + tasks[i].begin, from + tasks[i].end, &joined[offsets[tasks[i].first]]);
    }
  };
  std::vector<std::thread> others;
  for (std::size_t self = 1; self < threads; ++self) others.emplace_back(work, self);
  work(0);
  for (std::thread& other : others) other.join();
  for (const std::exception_ptr& failure : failures) {
    if (failure != nullptr) std::rethrow_exception(failure);
  }
  if (joined == nullptr) throw std::bad_alloc();
  return {std::move(joined), std::move(offsets)};
}

template <class Id>
std::vector<std::int64_t> Engine<Id>::count(std::span<const Text> documents, SpecialPolicy policy) {
  const Lease worker(*this);
  TokenBuffer<Id> tokens;
  std::vector<std::int64_t> counts(documents.size());
  for (std::size_t i = 0; i < documents.size(); ++i) {
    tokens.clear();
    try {
      worker->encode(documents[i], policy, tokens);
    } catch (const SpecialFoundError& found) {
      throw SpecialFoundError(found.what(), i);
    }
    counts[i] = static_cast<std::int64_t>(tokens.size());
  }
  return counts;
}

template class TokenBuffer<std::uint16_t>;
template class TokenBuffer<std::uint32_t>;
template class Worker<std::uint16_t>;
template class Worker<std::uint32_t>;
template class Engine<std::uint16_t>;
template class Engine<std::uint32_t>;

}  // namespace tokpack::bpe
