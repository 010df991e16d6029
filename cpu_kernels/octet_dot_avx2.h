// Products of rows that are read as octets (octet.h) with activations in int8, with and without
// AVX-VNNI. Included by units of AVX2 only.
#pragma once

#include <cstring>

#include "cpu_kernels/block_dot_avx2.h"

namespace thermocline::avx2 {

// Sums of four products lie in 32-bit lanes, eight of a chunk: the first half of them is of its
// first 16 columns.
template <DType kType, class Products>
class OctetDot {
 public:
  using Reg = __m256;
  using TypeOctet = Octet<Simd, kType>;
  static constexpr int kRowGroup = Simd::kRowGroup;
  static constexpr int kStepBytes = kOctetBytes<kType>;
  static constexpr int64_t kVectorStepBytes = kOctetCols + 96;
  static constexpr int64_t kMostTokens = 4;
  template <int kTokens>
  static constexpr int kManyRows = 1;

  explicit OctetDot(const MatvecArgs& args)
      : x_(static_cast<const std::byte*>(args.x)),
        x_stride_(args.x_stride_bytes),
        layout_(args.n_cols),
        n_cols_(args.n_cols) {}

  int64_t full_steps() const { return n_cols_ / kOctetCols; }

  template <int kRows, int kTokens = 1>
  void step(const std::byte* const* rows, int64_t t, Reg (*sums)[2]) const {
    for (int r = 0; r < kRows; ++r) {
      add<kTokens>(rows[r] + t * kStepBytes, t, sums + r * kTokens);
    }
  }

  template <int kRows, int kTokens = 1>
  void tail(const std::byte* const* rows, Reg (*sums)[2]) const {
    if (n_cols_ % kOctetCols == 0) return;
    for (int r = 0; r < kRows; ++r) {
      add<kTokens>(LastOctet<Simd, kType>(rows[r], n_cols_).bytes, full_steps(),
                   sums + r * kTokens);
    }
  }

  static float total(Reg sum0, Reg sum1) { return Simd::sum(Simd::add(sum0, sum1)); }

 private:
  static constexpr int kFactorRegs = TypeOctet::kHalves ? 2 : 1;

  [[gnu::always_inline]] inline const float* floats(int token, int64_t at) const {
    return reinterpret_cast<const float*>(x_ + token * x_stride_ + at);
  }

  template <int kTokens>
  [[gnu::always_inline]] inline void add(const std::byte* p, int64_t t, Reg (*sums)[2]) const {
    const TypeOctet octet{p};
    const auto factors = octet.factors();
    Reg scales[kTokens][kFactorRegs];
#pragma GCC unroll 8
    for (int token = 0; token < kTokens; ++token) {
      const Reg x_scales = Simd::load(floats(token, layout_.scales()) + t * kOctetChunks);
      if constexpr (TypeOctet::kHalves) {
        const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
        const float* half_sums = floats(token, layout_.half_sums()) + t * 2 * kOctetChunks;
        for (int i = 0; i < 2; ++i) {
          const __m256i at = _mm256_add_epi32(twice, _mm256_set1_epi32(4 * i));
          scales[token][i] = Simd::mul(factors.scales[i], _mm256_permutevar8x32_ps(x_scales, at));
          if constexpr (!TypeOctet::kSigned) {
            sums[token][i] =
                Simd::fma(factors.offsets[i], Simd::load(half_sums + 8 * i), sums[token][i]);
          }
        }
      } else {
        scales[token][0] = Simd::mul(factors.scales[0], x_scales);
        if constexpr (!TypeOctet::kSigned) {
          const Reg x_sums = Simd::load(floats(token, layout_.sums()) + t * kOctetChunks);
          sums[token][0] = Simd::fma(factors.offsets[0], x_sums, sums[token][0]);
        }
      }
    }
    add_chunk<kTokens, 0>(octet, scales, t, sums);
    add_chunk<kTokens, 1>(octet, scales, t, sums);
    add_chunk<kTokens, 2>(octet, scales, t, sums);
    add_chunk<kTokens, 3>(octet, scales, t, sums);
    add_chunk<kTokens, 4>(octet, scales, t, sums);
    add_chunk<kTokens, 5>(octet, scales, t, sums);
    add_chunk<kTokens, 6>(octet, scales, t, sums);
    add_chunk<kTokens, 7>(octet, scales, t, sums);
  }

  // Signed bytes, |w| <= 127, are multiplied as |w| and x with the sign of w.
  [[gnu::always_inline]] static inline __m256i fours(__m256i w, __m256i x) {
    if constexpr (TypeOctet::kSigned) {
      return Products::fours(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    } else {
      return Products::fours(w, x);
    }
  }

  template <int kTokens, int kChunk>
  [[gnu::always_inline]] inline void add_chunk(const TypeOctet& octet,
                                               const Reg (*scales)[kFactorRegs], int64_t t,
                                               Reg (*sums)[2]) const {
    const __m256i w = octet.template bytes<kChunk>();
#pragma GCC unroll 8
    for (int token = 0; token < kTokens; ++token) {
      const auto* x = reinterpret_cast<const __m256i*>(x_ + token * x_stride_ + t * kOctetCols +
                                                       kChunk * kQuantBlock);
      const __m256i dots = fours(w, _mm256_loadu_si256(x));
      Reg scale;
      if constexpr (TypeOctet::kHalves) {
        constexpr int kFirst = kChunk % 4 * 2;
        const __m256i at = _mm256_setr_epi32(kFirst, kFirst, kFirst, kFirst, kFirst + 1, kFirst + 1,
                                             kFirst + 1, kFirst + 1);
        scale = _mm256_permutevar8x32_ps(scales[token][kChunk / 4], at);
      } else {
        scale = _mm256_permutevar8x32_ps(scales[token][0], _mm256_set1_epi32(kChunk));
      }
      Reg& sum = sums[token][kChunk % 2];
      sum = Simd::fma(_mm256_cvtepi32_ps(dots), scale, sum);
    }
  }

  const std::byte* x_;
  int64_t x_stride_;
  Q8Vector layout_;
  int64_t n_cols_;
};

}  // namespace thermocline::avx2
