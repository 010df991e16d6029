// Products of Q8_0, Q4_1 and Q4_0 rows with activations in int8, with and without AVX-VNNI.
// Included by units of AVX2 only.
#pragma once

#include <cstring>

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/matvec_many.h"
#include "cpu_kernels/octet.h"
#include "cpu_kernels/simd_avx2.h"

namespace thermocline::avx2 {

// A prepared vector, padded with zeros to whole octets: int8, then f32: the scale of each 32; the
// scale times the sum of each 32, and the same of each 16. Then for products with several tokens,
// as int32, -8 times the sum of each four int8, and -128 times it.
struct Q8Vector {
  int64_t n;

  [[gnu::always_inline]] explicit inline Q8Vector(int64_t n_cols)
      : n((n_cols + kOctetCols - 1) / kOctetCols * kOctetCols) {}
  [[gnu::always_inline]] inline int64_t n_blocks() const { return n / kQuantBlock; }
  [[gnu::always_inline]] inline int64_t scales() const { return n; }
  [[gnu::always_inline]] inline int64_t sums() const { return n + 4 * n_blocks(); }
  [[gnu::always_inline]] inline int64_t half_sums() const { return n + 8 * n_blocks(); }
  [[gnu::always_inline]] inline int64_t minus_eights() const { return n + 16 * n_blocks(); }
  [[gnu::always_inline]] inline int64_t starts() const { return minus_eights() + n; }
  [[gnu::always_inline]] inline int64_t total() const { return starts() + n; }
};

[[gnu::always_inline]] inline int64_t scales_offset(int64_t n) { return Q8Vector(n).scales(); }

template <DType kType>
struct Block {
  static_assert(kHandlesType<kType>, "say how a block is read for products in int8");
};

template <>
struct Block<DType::kQ8_0> {
  static __m256i load(const std::byte* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 2));
  }
};

// Nibbles as they are stored, 0 to 15, at kOffset of the block.
template <int kOffset>
struct NibbleBlock {
  static __m256i load(const std::byte* p) { return OctetTools<Simd>::nibbles(p + kOffset); }
};
template <>
struct Block<DType::kQ4_0> : NibbleBlock<2> {};
template <>
struct Block<DType::kQ4_1> : NibbleBlock<4> {};

// How four products of an unsigned and a signed byte are summed in 32 bits. A pair's sum must fit
// 16 bits with Maddubs.
struct Maddubs {
  static constexpr bool kWholeBytes = false;
  [[gnu::always_inline]] static inline __m256i fours(__m256i unsigned_bytes, __m256i signed_bytes) {
    const __m256i pairs = _mm256_maddubs_epi16(unsigned_bytes, signed_bytes);
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  }
  [[gnu::always_inline]] static inline __m256i add_fours(__m256i start, __m256i unsigned_bytes,
                                                         __m256i signed_bytes) {
    return _mm256_add_epi32(start, fours(unsigned_bytes, signed_bytes));
  }
};

template <DType kType, class Products>
class BlockDot {
 public:
  using Reg = __m256;
  static constexpr int kRowGroup = Simd::kRowGroup;
  static constexpr int kStepBlocks = 4;
  static constexpr int kStepBytes = kStepBlocks * kTypeBlockBytes<kType>;
  static constexpr int64_t kVectorStepBytes = kStepBlocks * 68;
  static constexpr int64_t kMostTokens = 4;
  template <int kTokens>
  static constexpr int kManyRows = 1;

  explicit BlockDot(const MatvecArgs& args)
      : x_(static_cast<const std::byte*>(args.x)),
        x_stride_(args.x_stride_bytes),
        layout_(args.n_cols),
        scales_(reinterpret_cast<const float*>(x_ + scales_offset(args.n_cols))),
        n_blocks_(args.n_cols / kQuantBlock) {}

  int64_t full_steps() const { return n_blocks_ / kStepBlocks; }

  template <int kRows, int kTokens = 1>
  void step(const std::byte* const* rows, int64_t t, Reg (*sums)[2]) const {
    if constexpr (kTokens > 1) {
      static_assert(kRows == 1);
      return many_blocks<kTokens>(rows[0], t, sums);
    }
    for (int b = 0; b < kStepBlocks; ++b) block<kRows>(rows, t * kStepBlocks + b, b % 2, sums);
  }

  template <int kRows, int kTokens = 1>
  void tail(const std::byte* const* rows, Reg (*sums)[2]) const {
    for (int64_t b = full_steps() * kStepBlocks; b < n_blocks_; ++b) {
      if constexpr (kTokens > 1) {
        many_last<kTokens>(rows[0], b, sums);
      } else {
        block<kRows>(rows, b, 0, sums);
      }
    }
  }

  static float total(Reg sum0, Reg sum1) { return Simd::sum(Simd::add(sum0, sum1)); }

 private:
  // Fours of w . x, in 32 bits. Nibbles are unsigned factors from 0 to 15 that stand for -8 to 7,
  // and so can whole bytes be (0 to 255): what that adds, `excess`, is the same for all rows. Where
  // whole bytes would not fit, |w| <= 128 is the unsigned factor, and x with the sign of w is the
  // signed one: a pair's sum is at most 2 * 128 * 127 = 32512.
  [[gnu::always_inline]] static inline __m256i fours(__m256i w, __m256i x, __m256i excess) {
    if constexpr (kType == DType::kQ4_0) {
      return _mm256_sub_epi32(Products::fours(w, x), excess);
    } else if constexpr (Products::kWholeBytes) {
      const __m256i bytes = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
      return _mm256_sub_epi32(Products::fours(bytes, x), excess);
    } else {
      return Products::fours(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    }
  }

  template <int kRows>
  void block(const std::byte* const* rows, int64_t b, int sum, Reg (*sums)[2]) const {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x_ + b * kQuantBlock));
    if constexpr (kType == DType::kQ4_1) return block_with_offset<kRows>(rows, b, x, sum, sums);
    constexpr int kExcessBits = kType == DType::kQ4_0 ? 3 : 7;
    const __m256i excess = _mm256_slli_epi32(Products::fours(_mm256_set1_epi8(1), x), kExcessBits);
    for (int r = 0; r < kRows; ++r) {
      const std::byte* p = rows[r] + b * kTypeBlockBytes<kType>;
      const Reg scale = Simd::mul(Simd::broadcast_f16(p), Simd::set1(scales_[b]));
      const __m256i dots = fours(Block<kType>::load(p), x, excess);
      sums[r][sum] = Simd::fma(_mm256_cvtepi32_ps(dots), scale, sums[r][sum]);
    }
  }

  // w . x is d sum(q x) + m sum(x). The sums of x are the same for all rows, and one conversion
  // gives d and m, side by side in each pair of lanes.
  template <int kRows>
  [[gnu::always_inline]] inline void block_with_offset(const std::byte* const* rows, int64_t b,
                                                       __m256i x, int sum, Reg (*sums)[2]) const {
    const Reg x_scale = Simd::set1(scales_[b]);
    const Reg x_sums = _mm256_cvtepi32_ps(Products::fours(_mm256_set1_epi8(1), x));
    for (int r = 0; r < kRows; ++r) {
      const std::byte* p = rows[r] + b * kTypeBlockBytes<kType>;
      int32_t both;
      std::memcpy(&both, p, sizeof(both));
      const Reg factors = Simd::mul(_mm256_cvtph_ps(_mm_set1_epi32(both)), x_scale);
      const Reg dots = _mm256_cvtepi32_ps(Products::fours(Block<kType>::load(p), x));
      sums[r][sum] = Simd::fma(dots, _mm256_moveldup_ps(factors), sums[r][sum]);
      sums[r][sum] = Simd::fma(x_sums, _mm256_movehdup_ps(factors), sums[r][sum]);
    }
  }

  // ---- several tokens: sums of x are read, and factors of four blocks are made together ----

  // What is multiplied by x: weights plus 128, nibbles, or magnitudes with their signs.
  struct Bytes {
    __m256i factors;
    __m256i signs;
  };
  [[gnu::always_inline]] static inline Bytes read(const std::byte* p) {
    const __m256i w = Block<kType>::load(p);
    if constexpr (kType != DType::kQ8_0) {
      return {w, w};
    } else if constexpr (Products::kWholeBytes) {
      return {_mm256_xor_si256(w, _mm256_set1_epi8(-128)), w};
    } else {
      return {_mm256_abs_epi8(w), w};
    }
  }

  [[gnu::always_inline]] inline __m256i part_of_x(int token, int64_t at, int64_t b) const {
    const std::byte* const p = x_ + token * x_stride_ + at + b * kQuantBlock;
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }

  // Is what fours() gives.
  [[gnu::always_inline]] inline __m256i fours_of(const Bytes& w, int token, int64_t b) const {
    const __m256i x = part_of_x(token, 0, b);
    if constexpr (kType == DType::kQ4_1) {
      return Products::fours(w.factors, x);
    } else if constexpr (kType == DType::kQ4_0) {
      return Products::add_fours(part_of_x(token, layout_.minus_eights(), b), w.factors, x);
    } else if constexpr (Products::kWholeBytes) {
      return Products::add_fours(part_of_x(token, layout_.starts(), b), w.factors, x);
    } else {
      return Products::fours(w.factors, _mm256_sign_epi8(x, w.signs));
    }
  }

  [[gnu::always_inline]] inline const float* scales_of_x(int token, int64_t b) const {
    return reinterpret_cast<const float*>(x_ + token * x_stride_ + layout_.scales()) + b;
  }

  // The sums of x of a block with an offset, by fours, negative.
  [[gnu::always_inline]] inline Reg minus_sums_of_x(int token, int64_t b) const {
    const __m256i minus_eights = part_of_x(token, layout_.minus_eights(), b);
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(minus_eights, 3));
  }

  template <int kTokens>
  [[gnu::always_inline]] inline void many_blocks(const std::byte* row, int64_t t,
                                                 Reg (*sums)[2]) const {
    constexpr int64_t kBytes = kTypeBlockBytes<kType>;
    constexpr bool kOffsets = kType == DType::kQ4_1;
    const std::byte* const p = row + t * kStepBytes;
    const auto half = [&](int b, int at) __attribute__((always_inline)) {
      int16_t bits;
      std::memcpy(&bits, p + b * kBytes + at, sizeof(bits));
      return bits;
    };
    const __m128 w_scales =
        _mm_cvtph_ps(_mm_setr_epi16(half(0, 0), half(1, 0), half(2, 0), half(3, 0), 0, 0, 0, 0));
    __m128 w_offsets = w_scales;
    if constexpr (kOffsets) {
      w_offsets =
          _mm_cvtph_ps(_mm_setr_epi16(half(0, 2), half(1, 2), half(2, 2), half(3, 2), 0, 0, 0, 0));
    }
    __m128 scales[kTokens];
    __m128 offsets[kTokens];
#pragma GCC unroll 8
    for (int token = 0; token < kTokens; ++token) {
      const __m128 x_scales = _mm_loadu_ps(scales_of_x(token, t * kStepBlocks));
      scales[token] = _mm_mul_ps(w_scales, x_scales);
      if constexpr (kOffsets) offsets[token] = _mm_mul_ps(w_offsets, x_scales);
    }
    const auto everywhere = [](__m128 four, int at) __attribute__((always_inline)) {
      return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(four), _mm256_set1_epi32(at));
    };
#pragma GCC unroll 4
    for (int b = 0; b < kStepBlocks; ++b) {
      const Bytes w = read(p + b * kBytes);
#pragma GCC unroll 8
      for (int token = 0; token < kTokens; ++token) {
        const int64_t at = t * kStepBlocks + b;
        Reg& sum = sums[token][b % 2];
        sum = Simd::fma(_mm256_cvtepi32_ps(fours_of(w, token, at)), everywhere(scales[token], b),
                        sum);
        if constexpr (kOffsets) {
          sum = Simd::fnma(minus_sums_of_x(token, at), everywhere(offsets[token], b), sum);
        }
      }
    }
  }

  template <int kTokens>
  [[gnu::always_inline]] inline void many_last(const std::byte* row, int64_t b,
                                               Reg (*sums)[2]) const {
    const std::byte* const p = row + b * kTypeBlockBytes<kType>;
    const Bytes w = read(p);
    for (int token = 0; token < kTokens; ++token) {
      const Reg x_scale = Simd::set1(*scales_of_x(token, b));
      Reg& sum = sums[token][0];
      sum = Simd::fma(_mm256_cvtepi32_ps(fours_of(w, token, b)),
                      Simd::mul(Simd::broadcast_f16(p), x_scale), sum);
      if constexpr (kType == DType::kQ4_1) {
        sum = Simd::fnma(minus_sums_of_x(token, b), Simd::mul(Simd::broadcast_f16(p + 2), x_scale),
                         sum);
      }
    }
  }

  const std::byte* x_;
  int64_t x_stride_;
  Q8Vector layout_;
  const float* scales_;
  int64_t n_blocks_;
};

}  // namespace thermocline::avx2
