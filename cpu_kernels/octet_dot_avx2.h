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

  explicit OctetDot(const MatvecArgs& args)
      : x_(static_cast<const std::byte*>(args.x)), layout_(args.n_cols), n_cols_(args.n_cols) {}

  int64_t full_steps() const { return n_cols_ / kOctetCols; }

  template <int kRows>
  void step(const std::byte* const* rows, int64_t t, Reg (*sums)[2]) const {
    for (int r = 0; r < kRows; ++r) add(rows[r] + t * kStepBytes, t, sums[r]);
  }

  template <int kRows>
  void tail(const std::byte* const* rows, Reg (*sums)[2]) const {
    if (n_cols_ % kOctetCols == 0) return;
    for (int r = 0; r < kRows; ++r) {
      add(LastOctet<Simd, kType>(rows[r], n_cols_).bytes, full_steps(), sums[r]);
    }
  }

  static float total(Reg sum0, Reg sum1) { return Simd::sum(Simd::add(sum0, sum1)); }

 private:
  const float* floats(int64_t at) const { return reinterpret_cast<const float*>(x_ + at); }

  [[gnu::always_inline]] inline void add(const std::byte* p, int64_t t, Reg* sums) const {
    const TypeOctet octet{p};
    auto factors = octet.factors();
    const Reg x_scales = Simd::load(floats(layout_.scales()) + t * kOctetChunks);
    if constexpr (TypeOctet::kHalves) {
      const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
      const float* half_sums = floats(layout_.half_sums()) + t * 2 * kOctetChunks;
      for (int i = 0; i < 2; ++i) {
        const __m256i at = _mm256_add_epi32(twice, _mm256_set1_epi32(4 * i));
        const Reg scales = _mm256_permutevar8x32_ps(x_scales, at);
        factors.scales[i] = Simd::mul(factors.scales[i], scales);
        if constexpr (!TypeOctet::kSigned) {
          sums[i] = Simd::fma(factors.offsets[i], Simd::load(half_sums + 8 * i), sums[i]);
        }
      }
    } else {
      factors.scales[0] = Simd::mul(factors.scales[0], x_scales);
      if constexpr (!TypeOctet::kSigned) {
        const Reg x_sums = Simd::load(floats(layout_.sums()) + t * kOctetChunks);
        sums[0] = Simd::fma(factors.offsets[0], x_sums, sums[0]);
      }
    }
    add_chunk<0>(octet, factors, t, sums);
    add_chunk<1>(octet, factors, t, sums);
    add_chunk<2>(octet, factors, t, sums);
    add_chunk<3>(octet, factors, t, sums);
    add_chunk<4>(octet, factors, t, sums);
    add_chunk<5>(octet, factors, t, sums);
    add_chunk<6>(octet, factors, t, sums);
    add_chunk<7>(octet, factors, t, sums);
  }

  // Signed bytes, |w| <= 127, are multiplied as |w| and x with the sign of w.
  [[gnu::always_inline]] static inline __m256i fours(__m256i w, __m256i x) {
    if constexpr (TypeOctet::kSigned) {
      return Products::fours(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    } else {
      return Products::fours(w, x);
    }
  }

  template <int kChunk, class Factors>
  [[gnu::always_inline]] inline void add_chunk(const TypeOctet& octet, const Factors& factors,
                                               int64_t t, Reg* sums) const {
    const auto* x = reinterpret_cast<const __m256i*>(x_ + t * kOctetCols + kChunk * kQuantBlock);
    const __m256i dots = fours(octet.template bytes<kChunk>(), _mm256_loadu_si256(x));
    Reg scale;
    if constexpr (TypeOctet::kHalves) {
      constexpr int kFirst = kChunk % 4 * 2;
      const __m256i at = _mm256_setr_epi32(kFirst, kFirst, kFirst, kFirst, kFirst + 1, kFirst + 1,
                                           kFirst + 1, kFirst + 1);
      scale = _mm256_permutevar8x32_ps(factors.scales[kChunk / 4], at);
    } else {
      scale = _mm256_permutevar8x32_ps(factors.scales[0], _mm256_set1_epi32(kChunk));
    }
    sums[kChunk % 2] = Simd::fma(_mm256_cvtepi32_ps(dots), scale, sums[kChunk % 2]);
  }

  const std::byte* x_;
  Q8Vector layout_;
  int64_t n_cols_;
};

}  // namespace thermocline::avx2
