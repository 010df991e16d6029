// What the shared kernel templates need of a vector unit, for AVX2 with FMA and F16C. Included only
// by translation units that are compiled for it; see simd_avx512.h for what each function does.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace thermocline::avx2 {

struct Simd {
  using Reg = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kRowGroup = 4;

  static __m256i first(int64_t n) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lanes);
  }

  static Reg zero() { return _mm256_setzero_ps(); }
  static float lane_0(Reg x) { return _mm256_cvtss_f32(x); }
  static Reg set1(float x) { return _mm256_set1_ps(x); }
  static Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static Reg load_n(const float* p, int64_t n) { return _mm256_maskload_ps(p, first(n)); }
  static void store(float* p, Reg x) { _mm256_storeu_ps(p, x); }
  static void store_n(float* p, Reg x, int64_t n) { _mm256_maskstore_ps(p, first(n), x); }

  static __m128i load_u16(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
  static __m128i load_u16_n(const void* p, int64_t n) {
    uint16_t values[kLanes] = {};
    std::memcpy(values, p, static_cast<size_t>(n) * 2);
    return load_u16(values);
  }
  static void store_u16_n(uint16_t* p, __m128i x, int64_t n) {
    uint16_t values[kLanes];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(values), x);
    std::memcpy(p, values, static_cast<size_t>(n) * 2);
  }
  static Reg widen_bf16(__m128i x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
  }
  static Reg load_f16(const void* p) { return _mm256_cvtph_ps(load_u16(p)); }
  static Reg load_f16_n(const void* p, int64_t n) { return _mm256_cvtph_ps(load_u16_n(p, n)); }
  static Reg load_bf16(const void* p) { return widen_bf16(load_u16(p)); }
  static Reg load_bf16_n(const void* p, int64_t n) { return widen_bf16(load_u16_n(p, n)); }
  // Loads 8 signed bytes.
  static Reg load_i8(const void* p) {
    const __m128i bytes = _mm_loadl_epi64(static_cast<const __m128i*>(p));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
  }
  // Widens 32 signed bytes, in order.
  [[gnu::always_inline]] static inline void widen_bytes(__m256i bytes, Reg* out) {
    const __m128i halves[2] = {_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)};
    for (int v = 0; v < 4; ++v) {
      const __m128i half = halves[v / 2];
      const __m128i eight = v % 2 == 0 ? half : _mm_srli_si128(half, 8);
      out[v] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
    }
  }
  static Reg broadcast_f16(const void* p) {
    int16_t bits;
    std::memcpy(&bits, p, sizeof(bits));
    return _mm256_cvtph_ps(_mm_set1_epi16(bits));
  }
  template <int kLowest>
  [[gnu::always_inline]] static inline void load_nibbles(const void* p, Reg* out) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    const __m128i mask = _mm_set1_epi8(15);
    const __m128i lowest = _mm_set1_epi8(kLowest);
    const __m128i low = _mm_add_epi8(_mm_and_si128(bytes, mask), lowest);
    const __m128i high = _mm_add_epi8(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask), lowest);
    out[0] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low));
    out[1] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(low, 8)));
    out[2] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high));
    out[3] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(high, 8)));
  }

  static __m128i narrow_f16(Reg x) {
    return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static void store_f16(uint16_t* p, Reg x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_f16(x));
  }
  static void store_f16_n(uint16_t* p, Reg x, int64_t n) { store_u16_n(p, narrow_f16(x), n); }
  static __m128i narrow_bf16(Reg x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i rounded = _mm256_add_epi32(bits, bias);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    const __m256i chosen = _mm256_castps_si256(
        _mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(quiet), nan));
    const __m256i words = _mm256_srli_epi32(chosen, 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  }
  static void store_bf16(uint16_t* p, Reg x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_bf16(x));
  }
  static void store_bf16_n(uint16_t* p, Reg x, int64_t n) { store_u16_n(p, narrow_bf16(x), n); }
  static void store_i8(int8_t* p, Reg x) {
    const __m256i wide = _mm256_cvtps_epi32(x);
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
  }

  static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  static Reg div(Reg a, Reg b) { return _mm256_div_ps(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static Reg fnma(Reg a, Reg b, Reg c) { return _mm256_fnmadd_ps(a, b, c); }
  static Reg max(Reg a, Reg b) { return _mm256_max_ps(a, b); }
  static Reg min(Reg a, Reg b) { return _mm256_min_ps(a, b); }
  static Reg abs(Reg x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), x); }
  static Reg round(Reg x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Reg pow2(Reg n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
  }
  static Reg where_less(Reg test, Reg limit, Reg value, Reg x) {
    return _mm256_blendv_ps(x, value, _mm256_cmp_ps(test, limit, _CMP_LT_OQ));
  }
  static bool all_less(Reg a, Reg b) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ)) == 0xff;
  }

  static float sum(Reg x) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }
  static float largest(Reg x) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  }

  static Reg load_twice(const float* p) {
    const __m256 four = _mm256_castps128_ps256(_mm_loadu_ps(p));
    return _mm256_permutevar8x32_ps(four, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
  }
  static Reg swap_neighbours(Reg x) { return _mm256_permute_ps(x, 0xb1); }
  static Reg fmaddsub(Reg a, Reg b, Reg c) { return _mm256_fmaddsub_ps(a, b, c); }

  static int store_nonzero(int32_t* p, Reg x, int64_t n, int32_t base) {
    auto active = static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(x, zero(), _CMP_NEQ_UQ)));
    active &= (1U << n) - 1U;
    const int count = __builtin_popcount(active);
    for (; active != 0; active &= active - 1) *p++ = base + __builtin_ctz(active);
    return count;
  }

  using Words = __m256i;
  static constexpr int kWords = 4;
  static Words add_words(Words sum, const uint64_t* p) {
    return _mm256_add_epi64(sum, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static uint64_t total_words(Words sum) {
    uint64_t words[kWords];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), sum);
    return (words[0] + words[1]) + (words[2] + words[3]);
  }
};

}  // namespace thermocline::avx2
