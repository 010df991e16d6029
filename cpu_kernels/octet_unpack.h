// Octets turned into memory: floats for what works in f32, unsigned bytes with factors for panels
// in int8.
#pragma once

#include "cpu_kernels/octet.h"

namespace thermocline {

// Decodes chunks [begin, end) of the octet at p. out: 32 (end - begin) f32.
template <class V, DType kType>
void octet_to_floats(const std::byte* p, int64_t begin, int64_t end, float* out) {
  constexpr int kRegs = kQuantBlock / V::kLanes;
  constexpr bool kHalves = Octet<V, kType>::kHalves;
  visit_chunks<V, kType>(
      p, begin, end,
      [&](__m256i bytes, const OctetFactorArrays& factors, int first)
          __attribute__((always_inline)) {
            typename V::Reg values[kRegs];
            V::widen_bytes(bytes, values);
            for (int v = 0; v < kRegs; ++v) {
              const int at = first + (kHalves ? 2 * v / kRegs : 0);
              V::store(out, V::fma(V::set1(factors.scales[at]), values[v],
                                   V::set1(factors.offsets[at])));
              out += V::kLanes;
            }
          });
}

// Decodes columns [col, col_end) of a row. REQUIRES: multiples of 32.
template <class V, DType kType>
void octets_to_floats(const std::byte* row, int64_t col, int64_t col_end, float* out) {
  while (col < col_end) {
    const int64_t octet = col / kOctetCols;
    const int64_t octet_end = (octet + 1) * kOctetCols;
    const int64_t end = col_end < octet_end ? col_end : octet_end;
    octet_to_floats<V, kType>(row + octet * kOctetBytes<kType>, col % kOctetCols / kQuantBlock,
                              (end - 1) % kOctetCols / kQuantBlock + 1, out);
    out += end - col;
    col = end;
  }
}

// How integers of a type lie in panels in int8: signed ones get 128 where they need eight bits
// (which the sums of x pay back), else a smaller power of two and an offset.
template <class V, DType kType>
struct OctetBytes {
  using TypeOctet = Octet<V, kType>;
  static constexpr bool kAdds128 = TypeOctet::kSigned && TypeOctet::kMost > 63;
  static constexpr int kZero = !TypeOctet::kSigned || kAdds128 ? 0
                               : TypeOctet::kMost == 1         ? 1
                               : TypeOctet::kMost < 16         ? 16
                                                               : 64;
};

// Writes the bytes of chunks [begin, end) of the octet at p, each at its place in out (256), and
// their factors, two per chunk where the type has halves.
template <class V, DType kType>
void octet_to_bytes(const std::byte* p, int64_t begin, int64_t end, uint8_t* out,
                    OctetFactorArrays* out_factors) {
  using Bytes = OctetBytes<V, kType>;
  constexpr int kEach = Octet<V, kType>::kHalves ? 2 : 1;
  visit_chunks<V, kType>(
      p, begin, end,
      [&](__m256i bytes, const OctetFactorArrays& factors,
          int first) __attribute__((always_inline)) {
        if constexpr (Bytes::kAdds128) bytes = _mm256_xor_si256(bytes, _mm256_set1_epi8(-128));
        bytes = _mm256_add_epi8(bytes, _mm256_set1_epi8(Bytes::kZero));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + first / kEach * kQuantBlock), bytes);
        for (int i = first; i < first + kEach; ++i) {
          out_factors->scales[i] = factors.scales[i];
          constexpr float kBack = -Bytes::kZero;
          out_factors->offsets[i] =
              Bytes::kZero != 0 ? kBack * factors.scales[i] : factors.offsets[i];
        }
      });
}

}  // namespace thermocline
