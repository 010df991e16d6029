// accumulate_channels (cpu_kernels/channel_rows.h) for Q4_0 with AVX2.
//
// Bytes of two rows are interleaved, so that a word has one column of each, and multiplied by the
// two rows' factors of 8 bits (vpmaddubsw). Nibbles are w + 8, and 8 * 15 * 127 < 2^15: sums of 8
// rows fit 16 bits. 8 times the sum of the factors is taken off afterwards. Sums of four bytes at
// once (vpdpbusd of AVX-VNNI) would take as many instructions, since rows are interleaved twice for
// them.
#include "cpu_kernels/avx2_channels.h"

#include "cpu_kernels/channel_factors_avx2.h"
#include "cpu_kernels/channel_rows.h"
#include "cpu_kernels/simd_avx2.h"

namespace thermocline::avx2 {
namespace {

constexpr int64_t kBlockBytes = kTypeBlockBytes<DType::kQ4_0>;

// y += scale * sums, eight columns.
[[gnu::always_inline]] inline void add_scaled(__m256i sums, __m256 scale, float* y) {
  _mm256_storeu_ps(y, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scale, _mm256_loadu_ps(y)));
}

struct ChannelStrip {
  static constexpr DType kType = DType::kQ4_0;
  static constexpr auto kHint = _MM_HINT_T1;  // see accumulate_simd.h

  struct Factors {
    int64_t words[kChannelPairs];  // for each block a byte of row a's factor and one of row b's
    __m128i owed;
    __m128 scale;
  };

  [[gnu::always_inline]] static inline Factors factors(const std::byte* const* rows, int64_t offset,
                                                       const float* h) {
    const ChannelFactors made = channel_factors<kBlockBytes>(rows, offset, h);
    Factors factors;
    __m256i sum = _mm256_setzero_si256();
    // Bytes 0 of the lanes, and of the other half beside them.
    const __m128i low_bytes =
        _mm_setr_epi8(0, -1, 4, -1, 8, -1, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m128i high_bytes =
        _mm_setr_epi8(-1, 0, -1, 4, -1, 8, -1, 12, -1, -1, -1, -1, -1, -1, -1, -1);
    for (int p = 0; p < kChannelPairs; ++p) {
      const __m256i rounded = made.rounded[p];
      sum = _mm256_add_epi32(sum, rounded);
      const __m128i bytes =
          _mm_or_si128(_mm_shuffle_epi8(_mm256_castsi256_si128(rounded), low_bytes),
                       _mm_shuffle_epi8(_mm256_extracti128_si256(rounded, 1), high_bytes));
      factors.words[p] = _mm_cvtsi128_si64(bytes);
    }
    const __m128i all =
        _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    factors.owed = _mm_slli_epi32(all, 3);
    factors.scale = made.scale;
    return factors;
  }

  [[gnu::always_inline]] static inline void add(const Factors& factors,
                                                const std::byte* const* rows, int64_t offset,
                                                float* y) {
    add_blocks<0>(rows, offset, factors, y);
    add_blocks<2>(rows, offset, factors, y + 2 * kQuantBlock);
  }

 private:
  // The nibbles of blocks kFirst and kFirst + 1 of a row.
  template <int kFirst>
  [[gnu::always_inline]] static inline __m256i nibbles(const std::byte* row) {
    const auto* const at = reinterpret_cast<const __m128i*>(row + kFirst * kBlockBytes + 2);
    const auto* const next = reinterpret_cast<const __m128i*>(row + (kFirst + 1) * kBlockBytes + 2);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(at)),
                                   _mm_loadu_si128(next), 1);
  }

  template <int kFirst>
  [[gnu::always_inline]] static inline void add_blocks(const std::byte* const* rows, int64_t offset,
                                                       const Factors& factors, float* y) {
    const __m256i low_bits = _mm256_set1_epi8(15);
    const __m256i of_blocks =
        _mm256_set_m128i(_mm_set1_epi16((2 * kFirst + 3) << 8 | (2 * kFirst + 2)),
                         _mm_set1_epi16((2 * kFirst + 1) << 8 | 2 * kFirst));
    // Columns 0 to 7, 8 to 15, 16 to 23 and 24 to 31 of both blocks.
    __m256i sums[4] = {};
#pragma GCC unroll 8
    for (int p = 0; p < kChannelPairs; ++p) {
      const __m256i a = nibbles<kFirst>(rows[2 * p] + offset);
      const __m256i b = nibbles<kFirst>(rows[2 * p + 1] + offset);
      const __m256i factor = _mm256_shuffle_epi8(_mm256_set1_epi64x(factors.words[p]), of_blocks);
      const __m256i mixed[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
      for (int k = 0; k < 2; ++k) {
        const __m256i low = _mm256_and_si256(mixed[k], low_bits);
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(mixed[k], 4), low_bits);
        sums[k] = _mm256_add_epi16(sums[k], _mm256_maddubs_epi16(low, factor));
        sums[2 + k] = _mm256_add_epi16(sums[2 + k], _mm256_maddubs_epi16(high, factor));
      }
    }
    for (int block = 0; block < 2; ++block) {
      const auto lane = _mm256_set1_epi32(kFirst + block);
      const __m256i owed_here =
          _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(factors.owed), lane);
      const __m256 scale_here =
          _mm256_permutevar8x32_ps(_mm256_castps128_ps256(factors.scale), lane);
      for (int k = 0; k < 4; ++k) {
        const __m128i words_here =
            block == 0 ? _mm256_castsi256_si128(sums[k]) : _mm256_extracti128_si256(sums[k], 1);
        add_scaled(_mm256_sub_epi32(_mm256_cvtepi16_epi32(words_here), owed_here), scale_here,
                   y + block * kQuantBlock + 8 * k);
      }
    }
  }
};

}  // namespace

void accumulate_channels(DType dtype, const std::byte* w, int64_t row_stride_bytes, const float* h,
                         const int32_t* rows, int64_t n_rows, int64_t col_begin, int64_t col_end,
                         float* y) {
  AccumulateArgs args = {w, row_stride_bytes, h, rows, n_rows, col_begin, col_end, y};
  if (dtype == DType::kQ4_0) args.col_begin = add_channel_rows<ChannelStrip>(args);
  if (args.col_begin < args.col_end) accumulate_any(dtype, args);
}

}  // namespace thermocline::avx2
