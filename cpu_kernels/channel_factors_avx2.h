// The factors with which AVX2 adds 8 rows in integers (channel_rows.h): h times a block's scale,
// rounded to 8 bits. Included by units of AVX2 only.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "cpu_kernels/channel_rows.h"

namespace thermocline::avx2 {

inline constexpr int kChannelPairs = kChannelRows / 2;

[[gnu::always_inline]] inline int16_t scale_bits(const std::byte* p) {
  int16_t value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

// The f16 scales of a strip's four blocks, of two rows: four of row a, four of row b.
template <int64_t kBlockBytes>
[[gnu::always_inline]] inline __m256 pair_scales(const std::byte* a, const std::byte* b) {
  const __m128i halves =
      _mm_setr_epi16(scale_bits(a), scale_bits(a + kBlockBytes), scale_bits(a + 2 * kBlockBytes),
                     scale_bits(a + 3 * kBlockBytes), scale_bits(b), scale_bits(b + kBlockBytes),
                     scale_bits(b + 2 * kBlockBytes), scale_bits(b + 3 * kBlockBytes));
  return _mm256_cvtph_ps(halves);
}

// The factors of a strip, rounded to [-127, 127].
struct ChannelFactors {
  __m256i rounded[kChannelPairs];  // lane b: of row a and block b; lane 4 + b: of row b
  __m128 scale;                    // lane b: of block b
};

template <int64_t kBlockBytes>
[[gnu::always_inline]] inline ChannelFactors channel_factors(const std::byte* const* rows,
                                                             int64_t offset, const float* h) {
  __m256 products[kChannelPairs];
  __m256i most = _mm256_setzero_si256();
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
#pragma GCC unroll 8
  for (int p = 0; p < kChannelPairs; ++p) {
    const __m256 factors = _mm256_set_m128(_mm_set1_ps(h[2 * p + 1]), _mm_set1_ps(h[2 * p]));
    products[p] = _mm256_mul_ps(
        pair_scales<kBlockBytes>(rows[2 * p] + offset, rows[2 * p + 1] + offset), factors);
    // As integers, since the largest of floats forgets what is no number.
    most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_castps_si256(products[p]), magnitude));
  }
  const __m128 largest = _mm_castsi128_ps(
      _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1)));
  const __m128 some = _mm_cmpnlt_ps(largest, _mm_set1_ps(kSmallestQ8Block));
  const __m128 most_of_all = _mm_set1_ps(127);
  const __m128 inverse = _mm_and_ps(some, _mm_div_ps(most_of_all, largest));
  const __m256 inverses = _mm256_set_m128(inverse, inverse);
  ChannelFactors factors;
  for (int p = 0; p < kChannelPairs; ++p) {
    factors.rounded[p] = _mm256_cvtps_epi32(_mm256_mul_ps(products[p], inverses));
  }
  factors.scale = _mm_and_ps(some, _mm_div_ps(largest, most_of_all));
  return factors;
}

}  // namespace thermocline::avx2
