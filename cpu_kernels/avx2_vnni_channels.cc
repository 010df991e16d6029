// accumulate_channels (cpu_kernels/channel_rows.h) for Q8_0 by AVX-VNNI, and what AVX2 does of
// other types.
//
// Bytes of four rows are interleaved, so that a dword has one column of each, and multiplied by the
// four rows' factors of 8 bits (vpdpbusd). Bytes are unsigned as w + 128, and 128 times the sum of
// the factors is taken off afterwards.
#include "cpu_kernels/avx2_channels.h"
#include "cpu_kernels/channel_factors_avx2.h"
#include "cpu_kernels/channel_rows.h"

namespace thermocline::avx2 {
namespace {

constexpr int kByteFours = kChannelRows / 4;
constexpr int64_t kByteBlock = kTypeBlockBytes<DType::kQ8_0>;

struct ByteFours {
  static constexpr DType kType = DType::kQ8_0;
  // Zen 5, the first of AMD's with AVX-VNNI, reads a twentieth faster than into the second cache.
  static constexpr auto kHint = _MM_HINT_T0;

  struct Factors {
    __m128i fours[kByteFours];  // dword b: the bytes of four rows' factors for block b
    __m128 scale;
  };

  [[gnu::always_inline]] static inline Factors factors(const std::byte* const* rows, int64_t offset,
                                                       const float* h) {
    const ChannelFactors made = channel_factors<kByteBlock>(rows, offset, h);
    const __m128i by_block = _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
    Factors factors;
    for (int q = 0; q < kByteFours; ++q) {
      // Rows 0 and 2 of the four in one half, 1 and 3 in the other.
      const __m256i words = _mm256_packs_epi32(made.rounded[2 * q], made.rounded[2 * q + 1]);
      const __m256i bytes = _mm256_packs_epi16(words, words);
      const __m128i mixed =
          _mm_unpacklo_epi8(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
      factors.fours[q] = _mm_shuffle_epi8(mixed, by_block);
    }
    factors.scale = made.scale;
    return factors;
  }

  [[gnu::always_inline]] static inline void add(const Factors& factors,
                                                const std::byte* const* rows, int64_t offset,
                                                float* y) {
    add_block<0>(rows, offset, factors, y);
    add_block<1>(rows, offset, factors, y);
    add_block<2>(rows, offset, factors, y);
    add_block<3>(rows, offset, factors, y);
  }

 private:
  template <int kBlock>
  [[gnu::always_inline]] static inline __m256i unsigned_bytes(const std::byte* row) {
    const auto* const at = reinterpret_cast<const __m256i*>(row + kBlock * kByteBlock + 2);
    return _mm256_xor_si256(_mm256_loadu_si256(at), _mm256_set1_epi8(static_cast<char>(0x80)));
  }

  template <int kBlock>
  [[gnu::always_inline]] static inline void add_block(const std::byte* const* rows, int64_t offset,
                                                      const Factors& factors, float* y) {
    const __m256i lane = _mm256_set1_epi32(kBlock);
    // sums[k]: in either half 4 columns from 4 k on, of the block's first and of its last 16.
    __m256i sums[4] = {};
    __m256i owed = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int q = 0; q < kByteFours; ++q) {
      __m256i w[4];
      for (int r = 0; r < 4; ++r) w[r] = unsigned_bytes<kBlock>(rows[4 * q + r] + offset);
      const __m256i low01 = _mm256_unpacklo_epi8(w[0], w[1]);
      const __m256i high01 = _mm256_unpackhi_epi8(w[0], w[1]);
      const __m256i low23 = _mm256_unpacklo_epi8(w[2], w[3]);
      const __m256i high23 = _mm256_unpackhi_epi8(w[2], w[3]);
      const __m256i mixed[4] = {
          _mm256_unpacklo_epi16(low01, low23), _mm256_unpackhi_epi16(low01, low23),
          _mm256_unpacklo_epi16(high01, high23), _mm256_unpackhi_epi16(high01, high23)};
      const __m256i factor =
          _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(factors.fours[q]), lane);
      owed = _mm256_dpbusd_avx_epi32(owed, _mm256_set1_epi8(static_cast<char>(0x80)), factor);
      for (int k = 0; k < 4; ++k) {
        sums[k] = _mm256_dpbusd_avx_epi32(sums[k], mixed[k], factor);
      }
    }
    const __m256 scale = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(factors.scale), lane);
    float* const to = y + kBlock * kQuantBlock;
    add_scaled_sums(_mm256_permute2x128_si256(sums[0], sums[1], 0x20), owed, scale, to);
    add_scaled_sums(_mm256_permute2x128_si256(sums[2], sums[3], 0x20), owed, scale, to + 8);
    add_scaled_sums(_mm256_permute2x128_si256(sums[0], sums[1], 0x31), owed, scale, to + 16);
    add_scaled_sums(_mm256_permute2x128_si256(sums[2], sums[3], 0x31), owed, scale, to + 24);
  }

  [[gnu::always_inline]] static inline void add_scaled_sums(__m256i sums, __m256i owed,
                                                            __m256 scale, float* y) {
    const __m256 taken_off = _mm256_cvtepi32_ps(_mm256_sub_epi32(sums, owed));
    _mm256_storeu_ps(y, _mm256_fmadd_ps(taken_off, scale, _mm256_loadu_ps(y)));
  }
};

}  // namespace

void vnni_accumulate_channels(DType dtype, const std::byte* w, int64_t row_stride_bytes,
                              const float* h, const int32_t* rows, int64_t n_rows,
                              int64_t col_begin, int64_t col_end, float* y) {
  if (dtype != DType::kQ8_0) {
    return accumulate_channels(dtype, w, row_stride_bytes, h, rows, n_rows, col_begin, col_end, y);
  }
  AccumulateArgs args = {w, row_stride_bytes, h, rows, n_rows, col_begin, col_end, y};
  args.col_begin = add_channel_rows<ByteFours>(args);
  if (args.col_begin < args.col_end) accumulate_any(dtype, args);
}

}  // namespace thermocline::avx2
