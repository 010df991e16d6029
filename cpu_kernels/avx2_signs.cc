// Sign bits: packing them, and counting in how many a row differs from the activations.
#include "cpu_kernels/avx2.h"
#include "cpu_kernels/simd_avx2.h"

namespace thermocline::avx2 {
namespace {

constexpr int64_t kWords = 4;  // words of a register

// Counts the set bits of each word, looked up by nibble.
__m256i count_bits(__m256i x) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(x, nibble));
  const __m256i high =
      _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble));
  return _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256());
}

__m256i load_words(const uint64_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

int64_t total(__m256i x) {
  const __m128i pair = _mm_add_epi64(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  return _mm_cvtsi128_si64(pair) + _mm_extract_epi64(pair, 1);
}

}  // namespace

void pack_signs(const float* x, int64_t n, uint64_t* words) {
  for (int64_t first = 0; first < n; first += 64) {
    uint64_t word = 0;
    for (int64_t i = first; i < n && i < first + 64; i += Simd::kLanes) {
      const int64_t left = n - i;
      const __m256 value = left >= Simd::kLanes ? Simd::load(x + i) : Simd::load_n(x + i, left);
      word |= static_cast<uint64_t>(static_cast<unsigned>(_mm256_movemask_ps(value)))
              << (i - first);
    }
    words[first / 64] = word;
  }
}

void count_sign_differences(const uint64_t* w, int64_t n_words, const uint64_t* x, int64_t begin,
                            int64_t end, int32_t* out) {
  for (int64_t i = begin; i < end; ++i) {
    const uint64_t* row = w + i * n_words;
    __m256i sums = _mm256_setzero_si256();
    int64_t k = 0;
    for (; k + kWords <= n_words; k += kWords) {
      const __m256i differ = _mm256_xor_si256(load_words(row + k), load_words(x + k));
      sums = _mm256_add_epi64(sums, count_bits(differ));
    }
    int64_t count = total(sums);
    for (; k < n_words; ++k) count += __builtin_popcountll(row[k] ^ x[k]);
    out[i] = static_cast<int32_t>(count);
  }
}

}  // namespace thermocline::avx2
