// Memory whose end is the end of what may be read: one byte too many is a crash.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

namespace tokpack::bpe {

/// A copy of some bytes that ends at a page that may not be touched, and begins right after another.
class Guarded {
 public:
  explicit Guarded(std::span<const std::uint8_t> bytes, bool at_end = true) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t inside = (bytes.size() + page - 1) / page * page;
    size_ = inside + 2 * page;
    memory_ = static_cast<std::uint8_t*>(
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory_ == MAP_FAILED) std::abort();
    mprotect(memory_, page, PROT_NONE);
    mprotect(memory_ + page + inside, page, PROT_NONE);
    std::uint8_t* const begin = memory_ + page + (at_end ? inside - bytes.size() : 0);
    if (!bytes.empty()) std::memcpy(begin, bytes.data(), bytes.size());
    bytes_ = {begin, bytes.size()};
  }
  ~Guarded() { munmap(memory_, size_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  std::span<std::uint8_t> bytes() const { return bytes_; }

 private:
  std::uint8_t* memory_;
  std::size_t size_;
  std::span<std::uint8_t> bytes_;
};

}  // namespace tokpack::bpe
