// Multiplies Q4_1 rows by activations in int8 through VNNI.
//
// w . x = d sum(q x) + m sum(x), per block. Nibbles q are unsigned as they are: an int32 lane holds
// eight products, of at most 8 * 15 * 127. The sums of x are known when x is prepared, so the
// offsets of 16 blocks cost one multiply-add.
#include "cpu_kernels/avx512.h"
#include "cpu_kernels/matvec_many.h"
#include "cpu_kernels/rows_and_tokens.h"
#include "cpu_kernels/simd_avx512.h"
#include "cpu_kernels/vnni_vector.h"

namespace thermocline::avx512 {
namespace {

// Four blocks are 80 bytes, 20 words of 32 bits: block b's d and m are word 5 b, its nibbles are
// the four words after it.
constexpr int64_t kQuadBytes = 4 * kTypeBlockBytes<DType::kQ4_1>;
constexpr int64_t kHeadBytes = 64;
constexpr int64_t kStepQuads = 4;
constexpr int64_t kStepBlocks = 4 * kStepQuads;

// Two rows share what is loaded of x, so that all of it stays in registers.
template <int kRows>
constexpr int kSharing = kRows < 2 ? kRows : 2;

// A quad of a row that has only `n_blocks` of its blocks left: words 0..15 and 16..19, zeros where
// the row has ended.
struct QuadPart {
  __m512i head;
  __m128i rest;

  QuadPart(const std::byte* p, int64_t n_blocks) {
    const int64_t bytes = n_blocks * kTypeBlockBytes<DType::kQ4_1>;
    const uint64_t there = bytes < kHeadBytes ? (uint64_t{1} << bytes) - 1 : ~uint64_t{0};
    head = _mm512_maskz_loadu_epi8(there, p);
    rest = bytes < kQuadBytes ? _mm_setzero_si128() : load_rest(p);
  }
  static __m128i load_rest(const std::byte* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + kHeadBytes));
  }
};

// d and m of 16 blocks.
struct Factors {
  __m512 scales;
  __m512 offsets;
};

class Q41Dot {
 public:
  using Reg = __m512;
  static constexpr int kRowGroup = Simd::kRowGroup;
  static constexpr int kStepBytes = kStepQuads * kQuadBytes;
  static constexpr int64_t kVectorStepBytes = kStepQuads * (128 + 32);
  static constexpr int64_t kMostTokens = 6;
  template <int kTokens>
  static constexpr int kManyRows = 1;

  explicit Q41Dot(const MatvecArgs& args)
      : x_(static_cast<const std::byte*>(args.x)),
        x_stride_(args.x_stride_bytes),
        layout_(args.n_cols),
        n_blocks_(args.n_cols / kQuantBlock) {}

  int64_t full_steps() const { return n_blocks_ / kStepBlocks; }

  template <int kRows, int kTokens = 1>
  [[gnu::always_inline]] inline void step(const std::byte* const* rows, int64_t t,
                                          Reg (*sums)[2]) const {
    constexpr int kShare = kSharing<kRows>;
#pragma GCC unroll 8
    for (int first = 0; first < kRows; first += kShare) {
      const std::byte* w[kShare];
      Reg scales[kShare * kTokens];
      for (int r = 0; r < kShare; ++r) {
        w[r] = rows[first + r] + t * kStepBytes;
        __m512i pairs = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (int i = 0; i < kStepQuads; ++i) {
          pairs = with_pairs(pairs, i, _mm512_loadu_si512(w[r] + i * kQuadBytes));
        }
        const Factors factors = factors_of(pairs);
#pragma GCC unroll 8
        for (int token = 0; token < kTokens; ++token) {
          scales[r * kTokens + token] =
              _mm512_mul_ps(factors.scales, scales_of_x(token, t * kStepBlocks));
          Reg& sum = sums[(first + r) * kTokens + token][0];
          sum = _mm512_fmadd_ps(factors.offsets, sums_of_x(token, t * kStepBlocks), sum);
        }
      }
#pragma GCC unroll 4
      for (int i = 0; i < kStepQuads; ++i) {
        each_row_and_token<kShare, kTokens>(
            [&](int token) __attribute__((always_inline)) {
              return X(x_ + token * x_stride_, layout_, t * kStepQuads + i);
            },
            [&](int r) __attribute__((always_inline)) {
              const std::byte* quad = w[r] + i * kQuadBytes;
              return Nibbles(_mm512_loadu_si512(quad), QuadPart::load_rest(quad));
            },
            [&](int r, int token, const Nibbles& nibbles, const X& x)
                __attribute__((always_inline)) {
                  const Reg scale =
                      _mm512_permutexvar_ps(each_4_times_at(4 * i), scales[r * kTokens + token]);
                  Reg& sum = sums[(first + r) * kTokens + token][i % 2];
                  sum = x.add(nibbles, scale, sum);
                });
      }
    }
  }

  // What is left is less than 16 blocks, and its last quad may have less than four.
  template <int kRows, int kTokens = 1>
  void tail(const std::byte* const* rows, Reg (*sums)[2]) const {
    const int64_t first = full_steps() * kStepBlocks;
    if (first == n_blocks_) return;
    for (int r = 0; r < kRows; ++r) {
      const std::byte* w = rows[r] + full_steps() * kStepBytes;
      __m512i pairs = _mm512_setzero_si512();
      for (int i = 0; 4 * i < n_blocks_ - first; ++i) {
        pairs = with_pairs(pairs, i, QuadPart(w + i * kQuadBytes, left_of_quad(first, i)).head);
      }
      const Factors factors = factors_of(pairs);
      for (int token = 0; token < kTokens; ++token) {
        Reg* const sum = sums[r * kTokens + token];
        const Reg scales = _mm512_mul_ps(factors.scales, scales_of_x(token, first));
        sum[0] = _mm512_fmadd_ps(factors.offsets, sums_of_x(token, first), sum[0]);
        for (int i = 0; 4 * i < n_blocks_ - first; ++i) {
          const X x(x_ + token * x_stride_, layout_, first / 4 + i);
          const QuadPart quad(w + i * kQuadBytes, left_of_quad(first, i));
          const Reg scale = _mm512_permutexvar_ps(each_4_times_at(4 * i), scales);
          sum[i % 2] = x.add(Nibbles(quad.head, quad.rest), scale, sum[i % 2]);
        }
      }
    }
  }

  static float total(Reg sum0, Reg sum1) { return Simd::sum(Simd::add(sum0, sum1)); }

 private:
  // The nibbles of a quad: the first halves of its blocks, and the second.
  struct Nibbles {
    __m512i low;
    __m512i high;

    [[gnu::always_inline]] inline Nibbles(__m512i head, __m128i rest) {
      const __m512i nibbles_at =
          _mm512_setr_epi32(1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 16, 17, 18, 19);
      const __m512i nibbles =
          _mm512_permutex2var_epi32(head, nibbles_at, _mm512_broadcast_i32x4(rest));
      const __m512i mask = _mm512_set1_epi8(15);
      low = _mm512_and_si512(nibbles, mask);
      high = _mm512_and_si512(_mm512_srli_epi16(nibbles, 4), mask);
    }
  };

  // Four blocks of x, as Q4_1 rows read them.
  struct X {
    __m512i first;
    __m512i second;

    [[gnu::always_inline]] X(const std::byte* vector, const VnniVector& layout, int64_t i)
        : first(_mm512_load_si512(vector + layout.quad_bytes() + i * 128)),
          second(_mm512_load_si512(vector + layout.quad_bytes() + i * 128 + 64)) {}

    [[gnu::always_inline]] Reg add(const Nibbles& nibbles, Reg scale, Reg sum) const {
      const __m512i dots = _mm512_dpbusd_epi32(
          _mm512_dpbusd_epi32(_mm512_setzero_si512(), nibbles.low, first), nibbles.high, second);
      return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scale, sum);
    }
  };

  // Of 16 blocks of a token from `block` on.
  [[gnu::always_inline]] inline Reg scales_of_x(int token, int64_t block) const {
    return _mm512_loadu_ps(layout_.scales_of(x_ + token * x_stride_) + block);
  }
  [[gnu::always_inline]] inline Reg sums_of_x(int token, int64_t block) const {
    return _mm512_loadu_ps(layout_.sums_of(x_ + token * x_stride_) + block);
  }

  int64_t left_of_quad(int64_t first, int64_t i) const {
    const int64_t left = n_blocks_ - first - 4 * i;
    return left < 4 ? left : 4;
  }

  // Puts the d and m of quad i's four blocks in their place among those of 16.
  [[gnu::always_inline]] static inline __m512i with_pairs(__m512i pairs, int i, __m512i head) {
    const __m512i pairs_at = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 5, 10, 15));
    const auto lanes = static_cast<__mmask16>(0xf << (4 * i));
    return _mm512_mask_permutexvar_epi32(pairs, lanes, pairs_at, head);
  }

  [[gnu::always_inline]] static inline Factors factors_of(__m512i pairs) {
    const __m256i scales = _mm512_cvtepi32_epi16(pairs);
    const __m256i offsets = _mm512_cvtepi32_epi16(_mm512_srli_epi32(pairs, 16));
    return {_mm512_cvtph_ps(scales), _mm512_cvtph_ps(offsets)};
  }

  const std::byte* x_;
  int64_t x_stride_;
  VnniVector layout_;
  int64_t n_blocks_;
};

}  // namespace

void vnni_matvec_q4_1(const MatvecArgs& args) { matvec_many<Q41Dot>(args); }

}  // namespace thermocline::avx512
