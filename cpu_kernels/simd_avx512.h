// What the shared kernel templates need of a vector unit, for AVX-512 (F, BW, VL, DQ). Included
// only by translation units that are compiled for it; names carry the namespace, so that nothing
// emitted from here can be linked into code for other machines.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace thermocline::avx512 {

struct Simd {
  using Reg = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kRowGroup = 8;  // rows of a matvec at once: two sums each, 16 registers

  static __mmask16 first(int64_t n) { return static_cast<__mmask16>((1U << n) - 1U); }

  static Reg zero() { return _mm512_setzero_ps(); }
  static float lane_0(Reg x) { return _mm512_cvtss_f32(x); }
  static Reg set1(float x) { return _mm512_set1_ps(x); }
  static Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static Reg load_n(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static void store(float* p, Reg x) { _mm512_storeu_ps(p, x); }
  static void store_n(float* p, Reg x, int64_t n) { _mm512_mask_storeu_ps(p, first(n), x); }

  static Reg load_f16(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  static Reg load_f16_n(const void* p, int64_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p));
  }
  static Reg widen_bf16(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
  }
  static Reg load_bf16(const void* p) {
    return widen_bf16(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  static Reg load_bf16_n(const void* p, int64_t n) {
    return widen_bf16(_mm256_maskz_loadu_epi16(first(n), p));
  }
  // Loads 16 signed bytes.
  static Reg load_i8(const void* p) {
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
  }
  // Widens 32 signed bytes, in order.
  [[gnu::always_inline]] static inline void widen_bytes(__m256i bytes, Reg* out) {
    out[0] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(bytes)));
    out[1] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(bytes, 1)));
  }
  static Reg broadcast_f16(const void* p) {
    int16_t bits;
    std::memcpy(&bits, p, sizeof(bits));
    return _mm512_cvtph_ps(_mm256_set1_epi16(bits));
  }
  // kLowest, kLowest + 1, ... for the nibbles 0 to 15.
  template <int kLowest>
  static Reg nibble_values() {
    const Reg from_0 = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_ps(from_0, _mm512_set1_ps(kLowest));
  }
  // Decodes the 32 weights of a block of nibbles, in order, without scale and offset: 16 bytes to
  // values from kLowest on (-8 for Q4_0, 0 for Q4_1). A nibble picks its value out of a register
  // (vpermps looks at the low four bits of an index only).
  template <int kLowest>
  [[gnu::always_inline]] static inline void load_nibbles(const void* p, Reg* out) {
    const __m512 values = nibble_values<kLowest>();
    const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
    const __m512i wide = _mm512_cvtepu8_epi32(bytes);
    out[0] = _mm512_permutexvar_ps(wide, values);
    out[1] = _mm512_permutexvar_ps(_mm512_srli_epi32(wide, 4), values);
  }

  static __m256i narrow_f16(Reg x) {
    return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static void store_f16(uint16_t* p, Reg x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_f16(x));
  }
  static void store_f16_n(uint16_t* p, Reg x, int64_t n) {
    _mm256_mask_storeu_epi16(p, first(n), narrow_f16(x));
  }
  // Rounds to nearest even; NaN stays NaN (quiet).
  static __m256i narrow_bf16(Reg x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    const __m512i rounded = _mm512_add_epi32(bits, bias);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i chosen = _mm512_mask_blend_epi32(nan, rounded, quiet);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(chosen, 16));
  }
  static void store_bf16(uint16_t* p, Reg x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16(x));
  }
  static void store_bf16_n(uint16_t* p, Reg x, int64_t n) {
    _mm256_mask_storeu_epi16(p, first(n), narrow_bf16(x));
  }
  // Stores 16 integers of magnitude <= 127, rounded to nearest even, as bytes.
  static void store_i8(int8_t* p, Reg x) {
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  }

  static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  static Reg div(Reg a, Reg b) { return _mm512_div_ps(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }    // a * b + c
  static Reg fnma(Reg a, Reg b, Reg c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
  // Returns the second operand when either is NaN.
  static Reg max(Reg a, Reg b) { return _mm512_max_ps(a, b); }
  static Reg min(Reg a, Reg b) { return _mm512_min_ps(a, b); }
  static Reg abs(Reg x) { return _mm512_abs_ps(x); }
  static Reg round(Reg x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Reg pow2(Reg n) {  // n: integers in [-126, 127]
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
  }
  // Returns x where test < limit is false (also for NaN), else value.
  static Reg where_less(Reg test, Reg limit, Reg value, Reg x) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(test, limit, _CMP_LT_OQ), x, value);
  }
  static bool all_less(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ) == 0xffff; }

  static float sum(Reg x) {
    const __m256 high = _mm512_extractf32x8_ps(x, 1);
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }
  static float largest(Reg x) {
    const __m256 high = _mm512_extractf32x8_ps(x, 1);
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(x), high);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  }

  // Loads p[0] p[0] p[1] p[1] ...: eight floats, each twice.
  static Reg load_twice(const float* p) {
    const __m512i index = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(index, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
  }
  static Reg swap_neighbours(Reg x) { return _mm512_permute_ps(x, 0xb1); }
  // Returns a * b - c in even lanes, a * b + c in odd ones.
  static Reg fmaddsub(Reg a, Reg b, Reg c) { return _mm512_fmaddsub_ps(a, b, c); }

  // Writes the indices base + lane of the lanes that are not zero (NaN is not); room for 16
  // integers.
  static int store_nonzero(int32_t* p, Reg x, int64_t n, int32_t base) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i index = _mm512_add_epi32(lanes, _mm512_set1_epi32(base));
    const __mmask16 active = _mm512_mask_cmp_ps_mask(first(n), x, zero(), _CMP_NEQ_UQ);
    // Compressing in a register and storing it whole is many times faster on some cores than the
    // compressing store.
    _mm512_storeu_si512(p, _mm512_maskz_compress_epi32(active, index));
    return __builtin_popcount(active);
  }

  using Words = __m512i;
  static constexpr int kWords = 8;
  static Words add_words(Words sum, const uint64_t* p) {
    return _mm512_add_epi64(sum, _mm512_loadu_si512(p));
  }
  static uint64_t total_words(Words sum) {
    uint64_t words[kWords];
    _mm512_storeu_si512(words, sum);
    uint64_t total = 0;
    for (const uint64_t word : words) total += word;
    return total;
  }
};

}  // namespace thermocline::avx512
