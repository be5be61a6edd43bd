// The few vector operations that the engine needs, for SSE4.2, NEON and plain C++.
//
// Everything else is written against these types, so a new instruction set is a matter of this file.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(TOKPACK_BPE_PLAIN)
// Neither.
#elif defined(__SSE4_2__)
#include <immintrin.h>
#define TOKPACK_BPE_SSE 1
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#if defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif
#define TOKPACK_BPE_NEON 1
#endif

#if defined(__GNUC__) || defined(__clang__)
#define TOKPACK_BPE_INLINE inline __attribute__((always_inline))
#define TOKPACK_BPE_NOINLINE __attribute__((noinline))
#define TOKPACK_BPE_LAMBDA __attribute__((always_inline))
#else
#define TOKPACK_BPE_INLINE inline
#define TOKPACK_BPE_NOINLINE
#define TOKPACK_BPE_LAMBDA
#endif

namespace tokpack::bpe {

TOKPACK_BPE_INLINE void prefetch(const void* address) {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(address);
#else
  (void)address;
#endif
}

/// 16 bytes.
class Vec16 {
 public:
#if TOKPACK_BPE_SSE
  using Native = __m128i;
#elif TOKPACK_BPE_NEON
  using Native = uint8x16_t;
#else
  using Native = std::array<std::uint8_t, 16>;
#endif

  Vec16() = default;
  TOKPACK_BPE_INLINE explicit Vec16(Native value) : value_(value) {}

  static TOKPACK_BPE_INLINE Vec16 load(const void* from) {
#if TOKPACK_BPE_SSE
    return Vec16(_mm_loadu_si128(static_cast<const __m128i*>(from)));
#else
    Vec16 loaded;
    std::memcpy(&loaded.value_, from, 16);
    return loaded;
#endif
  }

  TOKPACK_BPE_INLINE void store(void* to) const {
#if TOKPACK_BPE_SSE
    _mm_storeu_si128(static_cast<__m128i*>(to), value_);
#else
    std::memcpy(to, &value_, 16);
#endif
  }

  static TOKPACK_BPE_INLINE Vec16 repeat(std::uint8_t byte) {
#if TOKPACK_BPE_SSE
    return Vec16(_mm_set1_epi8(static_cast<char>(byte)));
#elif TOKPACK_BPE_NEON
    return Vec16(vdupq_n_u8(byte));
#else
    Vec16 filled;
    filled.value_.fill(byte);
    return filled;
#endif
  }

  friend TOKPACK_BPE_INLINE Vec16 operator&(Vec16 a, Vec16 b) {
#if TOKPACK_BPE_SSE
    return Vec16(_mm_and_si128(a.value_, b.value_));
#elif TOKPACK_BPE_NEON
    return Vec16(vandq_u8(a.value_, b.value_));
#else
    for (std::size_t i = 0; i < 16; ++i) a.value_[i] &= b.value_[i];
    return a;
#endif
  }

  friend TOKPACK_BPE_INLINE Vec16 operator|(Vec16 a, Vec16 b) {
#if TOKPACK_BPE_SSE
    return Vec16(_mm_or_si128(a.value_, b.value_));
#elif TOKPACK_BPE_NEON
    return Vec16(vorrq_u8(a.value_, b.value_));
#else
    for (std::size_t i = 0; i < 16; ++i) a.value_[i] |= b.value_[i];
    return a;
#endif
  }

  friend TOKPACK_BPE_INLINE Vec16 operator^(Vec16 a, Vec16 b) {
#if TOKPACK_BPE_SSE
    return Vec16(_mm_xor_si128(a.value_, b.value_));
#elif TOKPACK_BPE_NEON
    return Vec16(veorq_u8(a.value_, b.value_));
#else
    for (std::size_t i = 0; i < 16; ++i) a.value_[i] ^= b.value_[i];
    return a;
#endif
  }

  TOKPACK_BPE_INLINE bool is_zero() const {
#if TOKPACK_BPE_SSE
    return _mm_testz_si128(value_, value_) != 0;
#else
    return (low() | high()) == 0;
#endif
  }

  TOKPACK_BPE_INLINE std::uint64_t low() const {
#if TOKPACK_BPE_SSE
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(value_));
#else
    std::uint64_t half;
    std::memcpy(&half, &value_, 8);
    return half;
#endif
  }

  TOKPACK_BPE_INLINE std::uint64_t high() const {
#if TOKPACK_BPE_SSE
    return static_cast<std::uint64_t>(_mm_extract_epi64(value_, 1));
#else
    std::uint64_t half;
    std::memcpy(&half, reinterpret_cast<const std::uint8_t*>(&value_) + 8, 8);
    return half;
#endif
  }

  /// The lower of each of four 32-bit numbers.
  friend TOKPACK_BPE_INLINE Vec16 min_u32(Vec16 a, Vec16 b) {
#if TOKPACK_BPE_SSE
    return Vec16(_mm_min_epu32(a.value_, b.value_));
#elif TOKPACK_BPE_NEON
    return Vec16(vreinterpretq_u8_u32(vminq_u32(vreinterpretq_u32_u8(a.value_), vreinterpretq_u32_u8(b.value_))));
#else
    const auto x = std::bit_cast<std::array<std::uint32_t, 4>>(a.value_);
    auto y = std::bit_cast<std::array<std::uint32_t, 4>>(b.value_);
    for (std::size_t i = 0; i < 4; ++i) y[i] = x[i] < y[i] ? x[i] : y[i];
    return Vec16(std::bit_cast<Native>(y));
#endif
  }

  /// The lowest of the four 32-bit numbers.
  TOKPACK_BPE_INLINE std::uint32_t lowest_u32() const {
#if TOKPACK_BPE_SSE
    const __m128i two = _mm_min_epu32(value_, _mm_shuffle_epi32(value_, 0x4E));
    return static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_min_epu32(two, _mm_shuffle_epi32(two, 0xB1))));
#elif TOKPACK_BPE_NEON
    return vminvq_u32(vreinterpretq_u32_u8(value_));
#else
    const auto x = std::bit_cast<std::array<std::uint32_t, 4>>(value_);
    return std::min(std::min(x[0], x[1]), std::min(x[2], x[3]));
#endif
  }

  /// Bytes 0-2, 3-5, 6-8 and 9-11 as four 32-bit numbers.
  TOKPACK_BPE_INLINE Vec16 widen_24_to_32() const {
#if TOKPACK_BPE_SSE
    return Vec16(_mm_shuffle_epi8(value_, _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1)));
#elif TOKPACK_BPE_NEON
    alignas(16) static constexpr std::uint8_t order[16] = {0, 1, 2, 255, 3, 4,  5,  255,
                                                           6, 7, 8, 255, 9, 10, 11, 255};
    return Vec16(vqtbl1q_u8(value_, vld1q_u8(order)));
#else
    Vec16 wide;
    for (std::size_t i = 0; i < 16; ++i) wide.value_[i] = i % 4 == 3 ? 0 : value_[i / 4 * 3 + i % 4];
    return wide;
#endif
  }

  TOKPACK_BPE_INLINE Native native() const { return value_; }

 private:
  Native value_;
};

/// 64 bytes of text. Each question about them is answered with one bit per byte, the first byte lowest.
class Block64 {
 public:
  static TOKPACK_BPE_INLINE Block64 load(const std::uint8_t* from) {
    Block64 block;
    for (std::size_t i = 0; i < 4; ++i) block.part_[i] = Vec16::load(from + 16 * i);
    return block;
  }

  TOKPACK_BPE_INLINE std::uint64_t equal(std::uint8_t byte) const {
    return ask([byte](Vec16 part) TOKPACK_BPE_LAMBDA {
#if TOKPACK_BPE_SSE
      return Vec16(_mm_cmpeq_epi8(part.native(), _mm_set1_epi8(static_cast<char>(byte))));
#elif TOKPACK_BPE_NEON
      return Vec16(vceqq_u8(part.native(), vdupq_n_u8(byte)));
#else
      return each(part, [byte](std::uint8_t other) { return other == byte; });
#endif
    });
  }

  /// Bytes from `first` to `first + more`.
  TOKPACK_BPE_INLINE std::uint64_t within(std::uint8_t first, std::uint8_t more) const {
    return ask([=](Vec16 part) TOKPACK_BPE_LAMBDA { return range(part, first, more); });
  }

  /// The letters A-Z and a-z.
  TOKPACK_BPE_INLINE std::uint64_t ascii_letters() const {
    return ask([](Vec16 part) TOKPACK_BPE_LAMBDA { return range(part | Vec16::repeat(0x20), 'a', 25); });
  }

  /// Bytes of multi-byte characters.
  TOKPACK_BPE_INLINE std::uint64_t non_ascii() const {
#if TOKPACK_BPE_SSE
    return ask([](Vec16 part) TOKPACK_BPE_LAMBDA { return part; });
#else
    return within(0x80, 0x7F);
#endif
  }

 private:
  template <class Question>
  TOKPACK_BPE_INLINE std::uint64_t ask(Question question) const {
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < 4; ++i) bits |= high_bits(question(part_[i])) << (16 * i);
    return bits;
  }

  static TOKPACK_BPE_INLINE Vec16 range(Vec16 part, std::uint8_t first, std::uint8_t more) {
#if TOKPACK_BPE_SSE
    const __m128i limit = _mm_set1_epi8(static_cast<char>(more));
    const __m128i moved = _mm_sub_epi8(part.native(), _mm_set1_epi8(static_cast<char>(first)));
    return Vec16(_mm_cmpeq_epi8(_mm_max_epu8(moved, limit), limit));
#elif TOKPACK_BPE_NEON
    return Vec16(vcleq_u8(vsubq_u8(part.native(), vdupq_n_u8(first)), vdupq_n_u8(more)));
#else
    return each(part, [=](std::uint8_t byte) { return static_cast<std::uint8_t>(byte - first) <= more; });
#endif
  }

  /// The highest bit of every byte.
  static TOKPACK_BPE_INLINE std::uint64_t high_bits(Vec16 part) {
#if TOKPACK_BPE_SSE
    return static_cast<std::uint32_t>(_mm_movemask_epi8(part.native()));
#elif TOKPACK_BPE_NEON
    alignas(16) static constexpr std::uint8_t weight[16] = {1, 2, 4, 8, 16, 32, 64, 128,
                                                            1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t bits = vandq_u8(part.native(), vld1q_u8(weight));
    return vaddv_u8(vget_low_u8(bits)) | static_cast<std::uint64_t>(vaddv_u8(vget_high_u8(bits))) << 8;
#else
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < 16; ++i) bits |= static_cast<std::uint64_t>(part.native()[i] >> 7) << i;
    return bits;
#endif
  }

#if !TOKPACK_BPE_SSE && !TOKPACK_BPE_NEON
  template <class Predicate>
  static Vec16 each(Vec16 part, Predicate predicate) {
    Vec16::Native bytes = part.native();
    for (auto& byte : bytes) byte = predicate(byte) ? 0xFF : 0;
    return Vec16(bytes);
  }
#endif

  std::array<Vec16, 4> part_;
};

/// A hash of `data` that continues `seed`; its low 32 bits are well mixed.
TOKPACK_BPE_INLINE std::uint64_t hash_64(std::uint64_t seed, std::uint64_t data) {
#if TOKPACK_BPE_SSE
  return _mm_crc32_u64(seed, data);
#elif TOKPACK_BPE_NEON && defined(__ARM_FEATURE_CRC32)
  return __crc32cd(static_cast<std::uint32_t>(seed), data);
#else
  const std::uint64_t mixed = (seed ^ data) * 0x9E3779B97F4A7C15u;
  return (mixed ^ (mixed >> 32)) * 0xD6E8FEB86659FD93u >> 32;
#endif
}

}  // namespace tokpack::bpe
