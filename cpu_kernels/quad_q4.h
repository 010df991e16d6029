// Four blocks of Q4_0, 72 bytes as 36 words of 16 bits, in AVX-512 registers: block b's scale is
// word 9 b, its nibbles are the eight words after it.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace thermocline::avx512 {

constexpr int64_t kQuadBytes = 72;

// Returns 16 bytes of nibbles of each block. head: words 0..31; rest: words 32..35, as often as
// they fit.
[[gnu::always_inline]] inline __m512i quad_nibbles(__m512i head, __m512i rest) {
  const __m512i nibbles_at =
      _mm512_set_epi16(35, 34, 33, 32, 31, 30, 29, 28, 26, 25, 24, 23, 22, 21, 20, 19, 17, 16, 15,
                       14, 13, 12, 11, 10, 8, 7, 6, 5, 4, 3, 2, 1);
  return _mm512_permutex2var_epi16(head, nibbles_at, rest);
}

[[gnu::always_inline]] inline __m512i quad_nibbles(__m512i head, const std::byte* rest) {
  int64_t words;
  std::memcpy(&words, rest, sizeof(words));
  return quad_nibbles(head, _mm512_set1_epi64(words));
}

// Loads words 0..31.
[[gnu::always_inline]] inline __m512i quad_head(const std::byte* p) {
  __m512i head = _mm512_loadu_si512(p);
  asm("" : "+v"(head));  // or it is loaded twice, and nearly every load crosses a cache line
  return head;
}

}  // namespace thermocline::avx512
