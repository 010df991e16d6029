// Counts sign bits that differ, with an instruction for it (VPOPCNTDQ).
#include <immintrin.h>

#include "cpu_kernels/avx512.h"

namespace thermocline::avx512 {
namespace {

constexpr int64_t kWords = 8;  // words of a register

}  // namespace

void vpopcnt_count_sign_differences(const uint64_t* w, int64_t n_words, const uint64_t* x,
                                    int64_t begin, int64_t end, int32_t* out) {
  const auto tail = static_cast<__mmask8>((1U << (n_words % kWords)) - 1U);
  for (int64_t i = begin; i < end; ++i) {
    const uint64_t* row = w + i * n_words;
    __m512i sums = _mm512_setzero_si512();
    int64_t k = 0;
    for (; k + kWords <= n_words; k += kWords) {
      const __m512i differ =
          _mm512_xor_si512(_mm512_loadu_si512(row + k), _mm512_loadu_si512(x + k));
      sums = _mm512_add_epi64(sums, _mm512_popcnt_epi64(differ));
    }
    if (tail != 0) {
      const __m512i differ = _mm512_xor_si512(_mm512_maskz_loadu_epi64(tail, row + k),
                                              _mm512_maskz_loadu_epi64(tail, x + k));
      sums = _mm512_add_epi64(sums, _mm512_popcnt_epi64(differ));
    }
    out[i] = static_cast<int32_t>(_mm512_reduce_add_epi64(sums));
  }
}

}  // namespace thermocline::avx512
