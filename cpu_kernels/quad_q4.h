// Four blocks of Q4_0, 72 bytes, in AVX-512 registers.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace thermocline::avx512 {

struct QuadQ4 {
  __m512i nibbles;  // 16 bytes of each block
  __m256i scales;   // f16, four times each
};

// A quad as 36 words of 16 bits: block b's scale is word 9 b, its nibbles are the eight after it.
// Two registers hold it: words 0..31 in `head`, and words 4..35 in `last`, of which the last four
// are wanted.
[[gnu::always_inline]] inline QuadQ4 split_quad_q4(__m512i head, __m512i last) {
  const __m512i nibbles_at =
      _mm512_set_epi16(63, 62, 61, 60, 31, 30, 29, 28, 26, 25, 24, 23, 22, 21, 20, 19, 17, 16, 15,
                       14, 13, 12, 11, 10, 8, 7, 6, 5, 4, 3, 2, 1);
  const __m512i scales_at = _mm512_castsi256_si512(
      _mm256_setr_epi16(0, 0, 0, 0, 9, 9, 9, 9, 18, 18, 18, 18, 27, 27, 27, 27));
  return {_mm512_permutex2var_epi16(head, nibbles_at, last),
          _mm512_castsi512_si256(_mm512_permutexvar_epi16(scales_at, head))};
}

[[gnu::always_inline]] inline QuadQ4 load_quad_q4(const std::byte* p) {
  __m512i head = _mm512_loadu_si512(p);
  asm("" : "+v"(head));  // or it is loaded twice, and nearly every load crosses a cache line
  return split_quad_q4(head, _mm512_loadu_si512(p + 8));
}

// The first n_blocks < 4 of a quad; the others are zeros and not read.
[[gnu::always_inline]] inline QuadQ4 load_part_of_quad_q4(const std::byte* p, int64_t n_blocks) {
  const uint64_t mask = (uint64_t{1} << (18 * n_blocks)) - 1;
  return split_quad_q4(_mm512_maskz_loadu_epi8(mask, p), _mm512_setzero_si512());
}

}  // namespace thermocline::avx512
