// Large tables in large pages.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace tokpack::bpe {

struct FreeMemory {
  void operator()(void* memory) const { std::free(memory); }
};

/// `count` zeroed elements, in large pages where the system has them. These must be asked for before the
/// memory is first touched: a table of some megabytes otherwise costs thousands of page faults.
template <class T>
std::unique_ptr<T[], FreeMemory> allocate_table(std::size_t count) {
  constexpr std::size_t kLargePage = std::size_t{2} << 20;
  const std::size_t bytes = (count * sizeof(T) + kLargePage - 1) / kLargePage * kLargePage;
  void* const memory = std::aligned_alloc(kLargePage, bytes);
  if (memory == nullptr) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  std::memset(memory, 0, bytes);
  return std::unique_ptr<T[], FreeMemory>(static_cast<T*>(memory));
}

}  // namespace tokpack::bpe
