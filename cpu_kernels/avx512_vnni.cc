// Multiplies Q8_0 and Q4_0 rows by activations in int8 through VNNI (vpdpbusd: unsigned times
// signed bytes, four at a time, added to int32).
//
// Weights are made unsigned by an offset: Q8_0 as w + 128, Q4_0 as 16 * nibble, which is 16 * (w +
// 8). Both owe 128 * sum(x) afterwards. That sum is known when x is prepared: each int32 lane
// starts from -128 times the sum of its activations, and the offset costs nothing. A lane's largest
// magnitude is eight activations, 8 * (255 + 128) * 127 < 2^19.
#include <cstring>

#include "cpu_kernels/avx512.h"
#include "cpu_kernels/convert_simd.h"
#include "cpu_kernels/matvec_many.h"
#include "cpu_kernels/octet.h"
#include "cpu_kernels/quad_q4.h"
#include "cpu_kernels/rows_and_tokens.h"
#include "cpu_kernels/simd_avx512.h"
#include "cpu_kernels/vnni_vector.h"
#include "runtime/core/error.h"

namespace thermocline::avx512 {
namespace {

// Two rows share what is loaded of x, so that all of it stays in registers.
template <int kRows>
constexpr int kSharing = kRows < 2 ? kRows : 2;

// Gathers the f16 scales of four registers' worth of blocks, kEach to every kStride bytes. scale_at
// says where each word lies in the register's first 64 bytes.
template <int kEach, int64_t kStride>
[[gnu::always_inline]] inline __m512i scales_of_four(const std::byte* w, __m512i scale_at) {
  constexpr __mmask32 kWords = (1U << kEach) - 1;
  __m512i scales = _mm512_maskz_permutexvar_epi16(kWords, scale_at, _mm512_loadu_si512(w));
#pragma GCC unroll 4
  for (int i = 1; i < 4; ++i) {
    scales = _mm512_mask_permutexvar_epi16(scales, kWords << (kEach * i), scale_at,
                                           _mm512_loadu_si512(w + i * kStride));
  }
  return scales;
}

// Q8_0 puts two blocks, 68 bytes, in a register, and takes two registers a step. Two steps at once
// turn their scales into floats together.
class Q8Dot {
 public:
  using Reg = __m512;
  static constexpr int kRowGroup = Simd::kRowGroup;
  static constexpr int64_t kPairBytes = 68;
  static constexpr int kStepBytes = 2 * kPairBytes;
  static constexpr int kManySteps = 2;
  static constexpr int64_t kVectorStepBytes = 4 * 68;
  static constexpr int64_t kMostTokens = 8;
  template <int kTokens>
  static constexpr int kManyRows = 1;

  explicit Q8Dot(const MatvecArgs& args)
      : x_(static_cast<const std::byte*>(args.x)),
        x_stride_(args.x_stride_bytes),
        layout_(args.n_cols),
        n_blocks_(args.n_cols / kQuantBlock) {}

  int64_t full_steps() const { return n_blocks_ / 4; }

  template <int kRows, int kTokens = 1>
  [[gnu::always_inline]] inline void step(const std::byte* const* rows, int64_t t,
                                          Reg (*sums)[2]) const {
    add_pair<kRows, kTokens, 0, false>(rows, 2 * t, sums);
    add_pair<kRows, kTokens, 1, false>(rows, 2 * t + 1, sums);
  }

  template <int kRows, int kTokens = 1>
  [[gnu::always_inline]] inline void many_steps(const std::byte* const* rows, int64_t t,
                                                Reg (*sums)[2]) const {
    constexpr int kPairs = 2 * kManySteps;
    constexpr int kShare = kSharing<kRows>;
    __m256 x_scales[kTokens];
#pragma GCC unroll 8
    for (int token = 0; token < kTokens; ++token) {
      x_scales[token] = _mm256_loadu_ps(scales_of_x(token, 2 * t));
    }
#pragma GCC unroll 8
    for (int first = 0; first < kRows; first += kShare) {
      const std::byte* w[kShare];
      Reg scales[kShare * kTokens];
      for (int r = 0; r < kShare; ++r) {
        w[r] = rows[first + r] + t * kStepBytes;
        const __m256 step_scales = _mm256_cvtph_ps(scales_of(w[r]));
#pragma GCC unroll 8
        for (int token = 0; token < kTokens; ++token) {
          scales[r * kTokens + token] =
              _mm512_castps256_ps512(_mm256_mul_ps(step_scales, x_scales[token]));
        }
      }
#pragma GCC unroll 8
      for (int p = 0; p < kPairs; ++p) {
        each_row_and_token<kShare, kTokens>(
            [&](int token)
                __attribute__((always_inline)) { return load_x<kRows, kTokens>(token, 2 * t + p); },
            [&](int r) __attribute__((always_inline)) {
              return _mm512_xor_si512(load_weights(w[r] + p * kPairBytes), _mm512_set1_epi8(-128));
            },
            [&](int r, int token, __m512i weights, const X& x) __attribute__((always_inline)) {
              const Reg scale =
                  _mm512_permutexvar_ps(each_8_times_at(2 * p), scales[r * kTokens + token]);
              Reg& sum = sums[(first + r) * kTokens + token][p % 2];
              sum = x.add(weights, scale, sum);
            });
      }
    }
  }

  template <int kRows, int kTokens = 1>
  void tail(const std::byte* const* rows, Reg (*sums)[2]) const {
    int64_t p = full_steps() * 2;
    for (; 2 * p + 2 <= n_blocks_; ++p) add_pair<kRows, kTokens, 0, false>(rows, p, sums);
    if (2 * p < n_blocks_) add_pair<kRows, kTokens, 1, true>(rows, p, sums);
  }

  static float total(Reg sum0, Reg sum1) { return Simd::sum(Simd::add(sum0, sum1)); }

 private:
  // Two blocks of x.
  struct X {
    __m512i x;
    __m512i start;

    // weights: plus 128, as unsigned bytes.
    [[gnu::always_inline]] inline Reg add(__m512i weights, Reg scale, Reg sum) const {
      return _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_dpbusd_epi32(start, weights, x)), scale,
                             sum);
    }
  };

  const float* scales_of_x(int token, int64_t pair) const {
    return layout_.scales_of(x_ + token * x_stride_) + pair * 2;
  }

  // Returns the f16 scales of the eight blocks of two steps.
  [[gnu::always_inline]] static __m128i scales_of(const std::byte* w) {
    const __m512i scale_at = _mm512_set1_epi32(17 << 16);
    return _mm512_castsi512_si128(scales_of_four<2, kPairBytes>(w, scale_at));
  }

  // Starts are read where rows are short or tokens several; where rows are long they are made
  // instead of being kept in L1 beside x.
  template <int kRows, int kTokens>
  [[gnu::always_inline]] inline X load_x(int token, int64_t pair) const {
    const std::byte* const vector = x_ + token * x_stride_;
    const __m512i x = _mm512_load_si512(vector + pair * 64);
    if constexpr (kRows >= 4 || kTokens > 1) {
      return {x, _mm512_load_si512(vector + layout_.pair_starts() + pair * 64)};
    } else {
      const __m512i zero = _mm512_setzero_si512();
      return {x, _mm512_sub_epi32(zero, _mm512_dpbusd_epi32(zero, _mm512_set1_epi8(-128), x))};
    }
  }

  [[gnu::always_inline]] static __m512i load_weights(const std::byte* w) {
    const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + 2));
    const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + 36));
    return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
  }

  // A pair of a row: its weights plus 128, and its scales.
  struct Pair {
    __m512i weights;
    Reg scales;
  };

  // With kHalf the pair's second block lies beyond the row and must not be read.
  template <bool kHalf>
  [[gnu::always_inline]] static inline Pair read_pair(const std::byte* w) {
    const __m512i scale_at = _mm512_castsi256_si512(
        _mm256_setr_epi16(0, 0, 0, 0, 0, 0, 0, 0, 17, 17, 17, 17, 17, 17, 17, 17));
    __m512i head;     // the first 64 bytes, in which both scales are
    __m512i weights;  // the 64 weights
    if constexpr (kHalf) {
      head = _mm512_maskz_loadu_epi8((uint64_t{1} << 34) - 1, w);
      weights = _mm512_maskz_loadu_epi8((uint64_t{1} << 32) - 1, w + 2);
    } else {
      head = _mm512_loadu_si512(w);
      weights = load_weights(w);
    }
    const __m256i halves = _mm512_castsi512_si256(_mm512_permutexvar_epi16(scale_at, head));
    return {_mm512_xor_si512(weights, _mm512_set1_epi8(-128)), _mm512_cvtph_ps(halves)};
  }

  template <int kRows, int kTokens, int kSum, bool kHalf>
  [[gnu::always_inline]] inline void add_pair(const std::byte* const* rows, int64_t p,
                                              Reg (*sums)[2]) const {
    struct ScaledX {
      X x;
      Reg scales;
    };
    each_row_and_token<kRows, kTokens>(
        [&](int token) __attribute__((always_inline)) {
          return ScaledX{load_x<kRows, kTokens>(token, p), each_8_times(scales_of_x(token, p))};
        },
        [&](int r)
            __attribute__((always_inline)) { return read_pair<kHalf>(rows[r] + p * kPairBytes); },
        [&](int r, int token, const Pair& pair, const ScaledX& x) __attribute__((always_inline)) {
          Reg& sum = sums[r * kTokens + token][kSum];
          sum = x.x.add(pair.weights, _mm512_mul_ps(pair.scales, x.scales), sum);
        });
  }

  const std::byte* x_;
  int64_t x_stride_;
  VnniVector layout_;
  int64_t n_blocks_;
};

// Q4_0 puts four blocks, 72 bytes, in a register of 128 nibbles, and takes two registers a step.
// Two steps at once turn their scales into floats together.
class Q4Dot {
 public:
  using Reg = __m512;
  static constexpr int kRowGroup = Simd::kRowGroup;
  static constexpr int kStepBytes = 2 * kQuadBytes;
  static constexpr int kManySteps = 2;
  static constexpr int64_t kVectorStepBytes = 2 * 208;
  static constexpr int64_t kMostTokens = 6;
  template <int kTokens>
  static constexpr int kManyRows = 1;

  explicit Q4Dot(const MatvecArgs& args)
      : x_(static_cast<const std::byte*>(args.x)),
        x_stride_(args.x_stride_bytes),
        layout_(args.n_cols),
        n_blocks_(args.n_cols / kQuantBlock) {}

  int64_t full_steps() const { return n_blocks_ / 8; }

  template <int kRows, int kTokens = 1>
  [[gnu::always_inline]] inline void step(const std::byte* const* rows, int64_t t,
                                          Reg (*sums)[2]) const {
    add_quad<kRows, kTokens, 0, false>(rows, 2 * t, sums);
    add_quad<kRows, kTokens, 1, false>(rows, 2 * t + 1, sums);
  }

  template <int kRows, int kTokens = 1>
  [[gnu::always_inline]] inline void many_steps(const std::byte* const* rows, int64_t t,
                                                Reg (*sums)[2]) const {
    constexpr int kQuads = 2 * kManySteps;
    constexpr int kShare = kSharing<kRows>;
    Reg x_scales[kTokens];
#pragma GCC unroll 8
    for (int token = 0; token < kTokens; ++token) {
      x_scales[token] = _mm512_loadu_ps(scales_of_x(token, 2 * t));
    }
#pragma GCC unroll 8
    for (int first = 0; first < kRows; first += kShare) {
      const std::byte* w[kShare];
      Reg scales[kShare * kTokens];
      for (int r = 0; r < kShare; ++r) {
        w[r] = rows[first + r] + t * kStepBytes;
        const Reg step_scales = _mm512_cvtph_ps(scales_of(w[r]));
#pragma GCC unroll 8
        for (int token = 0; token < kTokens; ++token) {
          scales[r * kTokens + token] = _mm512_mul_ps(step_scales, x_scales[token]);
        }
      }
#pragma GCC unroll 8
      for (int i = 0; i < kQuads; ++i) {
        each_row_and_token<kShare, kTokens>(
            [&](int token) __attribute__((always_inline)) {
              return X(x_ + token * x_stride_, layout_, 2 * t + i);
            },
            [&](int r) __attribute__((always_inline)) {
              const std::byte* quad = w[r] + i * kQuadBytes;
              return Nibbles(quad_nibbles(_mm512_loadu_si512(quad), quad + 64));
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

  template <int kRows, int kTokens = 1>
  void tail(const std::byte* const* rows, Reg (*sums)[2]) const {
    int64_t i = full_steps() * 2;
    for (; 4 * i + 4 <= n_blocks_; ++i) add_quad<kRows, kTokens, 0, false>(rows, i, sums);
    if (4 * i < n_blocks_) add_quad<kRows, kTokens, 1, true>(rows, i, sums);
  }

  // A weight counts 16 times in the integer sums.
  static float total(Reg sum0, Reg sum1) { return Simd::sum(Simd::add(sum0, sum1)) * (1.0F / 16); }

 private:
  // The nibbles of a quad, 16 times each: the first halves of its blocks, and the second.
  struct Nibbles {
    __m512i low;
    __m512i high;

    [[gnu::always_inline]] explicit inline Nibbles(__m512i both)
        : low(_mm512_and_si512(_mm512_slli_epi16(both, 4), _mm512_set1_epi8(-16))),
          high(_mm512_and_si512(both, _mm512_set1_epi8(-16))) {}
  };

  // Four blocks of x, as Q4_0 rows read them.
  struct X {
    __m512i first;
    __m512i second;
    __m512i start;

    [[gnu::always_inline]] X(const std::byte* vector, const VnniVector& layout, int64_t i)
        : first(_mm512_load_si512(vector + layout.quad_bytes() + i * 128)),
          second(_mm512_load_si512(vector + layout.quad_bytes() + i * 128 + 64)),
          start(_mm512_load_si512(vector + layout.quad_starts() + i * 64)) {}

    [[gnu::always_inline]] Reg add(const Nibbles& nibbles, Reg scale, Reg sum) const {
      const __m512i dots =
          _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start, nibbles.low, first), nibbles.high, second);
      return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scale, sum);
    }
  };

  const float* scales_of_x(int token, int64_t quad) const {
    return layout_.scales_of(x_ + token * x_stride_) + quad * 4;
  }

  // Returns the f16 scales of the 16 blocks of two steps.
  [[gnu::always_inline]] static __m256i scales_of(const std::byte* w) {
    const __m512i scale_at = _mm512_set1_epi64(9LL << 16 | 18LL << 32 | 27LL << 48);
    return _mm512_castsi512_si256(scales_of_four<4, kQuadBytes>(w, scale_at));
  }

  // A quad of a row: its nibbles and scales.
  struct Quad {
    Nibbles nibbles;
    Reg scales;
  };

  // With kPart the row ends before the quad does.
  template <bool kPart>
  [[gnu::always_inline]] inline Quad read_quad(const std::byte* w, int64_t i) const {
    const __m512i scale_at = _mm512_castsi256_si512(
        _mm256_setr_epi16(0, 0, 0, 0, 9, 9, 9, 9, 18, 18, 18, 18, 27, 27, 27, 27));
    __m512i head;
    __m512i nibbles;
    if constexpr (kPart) {  // fewer than four blocks: no word of the rest
      const uint64_t there = (uint64_t{1} << (18 * (n_blocks_ - 4 * i))) - 1;
      head = _mm512_maskz_loadu_epi8(there, w);
      nibbles = quad_nibbles(head, _mm512_setzero_si512());
    } else {
      head = quad_head(w);
      nibbles = quad_nibbles(head, w + 64);
    }
    const __m256i halves = _mm512_castsi512_si256(_mm512_permutexvar_epi16(scale_at, head));
    return {Nibbles(nibbles), _mm512_cvtph_ps(halves)};
  }

  template <int kRows, int kTokens, int kSum, bool kPart>
  [[gnu::always_inline]] inline void add_quad(const std::byte* const* rows, int64_t i,
                                              Reg (*sums)[2]) const {
    struct ScaledX {
      X x;
      Reg scales;
    };
    each_row_and_token<kRows, kTokens>(
        [&](int token) __attribute__((always_inline)) {
          return ScaledX{X(x_ + token * x_stride_, layout_, i),
                         each_4_times(scales_of_x(token, i))};
        },
        [&](int r) __attribute__((always_inline)) {
          return read_quad<kPart>(rows[r] + i * kQuadBytes, i);
        },
        [&](int r, int token, const Quad& quad, const ScaledX& x) __attribute__((always_inline)) {
          Reg& sum = sums[r * kTokens + token][kSum];
          sum = x.x.add(quad.nibbles, _mm512_mul_ps(quad.scales, x.scales), sum);
        });
  }

  const std::byte* x_;
  int64_t x_stride_;
  VnniVector layout_;
  int64_t n_blocks_;
};

// Returns -128 times the sums of the activations that share an int32 lane.
__m512i starts_of(__m512i first, __m512i second) {
  const __m512i ones = _mm512_set1_epi8(1);
  const __m512i sums =
      _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, first), ones, second);
  return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sums, 7));
}

// Returns the sums of a quad's blocks. Each block's starts lie in four lanes.
__m128 sums_of_four(__m512i starts) {
  const __m512i pairs = _mm512_add_epi32(starts, _mm512_shuffle_epi32(starts, _MM_PERM_CDAB));
  const __m512i fours = _mm512_add_epi32(pairs, _mm512_shuffle_epi32(pairs, _MM_PERM_BADC));
  const __m512i first_at = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 4, 8, 12));
  const __m128i blocks = _mm512_castsi512_si128(_mm512_permutexvar_epi32(first_at, fours));
  return _mm_mul_ps(_mm_cvtepi32_ps(blocks), _mm_set1_ps(-1.0F / 128));
}

// Returns the sums of the halves of a pair's blocks.
__m128 half_sums_of_pair(__m512i bytes) {
  const __m512i fours = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), bytes);
  const __m512i twos = _mm512_add_epi32(fours, _mm512_shuffle_epi32(fours, _MM_PERM_CDAB));
  const __m512i halves = _mm512_add_epi32(twos, _mm512_shuffle_epi32(twos, _MM_PERM_BADC));
  const __m512i first_at = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 4, 8, 12));
  return _mm_cvtepi32_ps(_mm512_castsi512_si128(_mm512_permutexvar_epi32(first_at, halves)));
}

}  // namespace

int64_t vnni_q8_bytes(int64_t n) { return VnniVector(n).total(); }

void vnni_prepare_q8(const float* x, int64_t n, Plane plane, void* out) {
  const VnniVector layout(n);
  auto* base = static_cast<std::byte*>(out);
  auto* scales = reinterpret_cast<float*>(base + layout.scales());
  auto* sums = reinterpret_cast<float*>(base + layout.sums());
  auto* half_sums = reinterpret_cast<float*>(base + layout.half_sums());
  std::memset(scales, 0, static_cast<size_t>(layout.total() - layout.scales()));
  for (int64_t i = 0; i < layout.n_quads; ++i) {
    alignas(64) int8_t q[4 * kQuantBlock] = {};
    for (int64_t b = 4 * i; b < 4 * i + 4 && b * kQuantBlock < n; ++b) {
      quantise_activations<Simd>(x + b * kQuantBlock, plane, q + (b - 4 * i) * kQuantBlock,
                                 scales + b);
    }
    const __m512i pairs[2] = {_mm512_load_si512(q), _mm512_load_si512(q + 64)};
    for (int64_t p = 2 * i; p < 2 * i + 2 && p < layout.n_pairs; ++p) {
      const __m512i bytes = pairs[p % 2];
      _mm512_storeu_si512(base + p * 64, bytes);
      _mm512_storeu_si512(base + layout.pair_starts() + p * 64,
                          starts_of(bytes, _mm512_setzero_si512()));
      const __m128 pair_scales =
          _mm_setr_ps(scales[2 * p], scales[2 * p], scales[2 * p + 1], scales[2 * p + 1]);
      _mm_storeu_ps(half_sums + 4 * p, _mm_mul_ps(half_sums_of_pair(bytes), pair_scales));
    }
    const __m512i first = _mm512_shuffle_i32x4(pairs[0], pairs[1], 0x88);
    const __m512i second = _mm512_shuffle_i32x4(pairs[0], pairs[1], 0xdd);
    _mm512_storeu_si512(base + layout.quad_bytes() + i * 128, first);
    _mm512_storeu_si512(base + layout.quad_bytes() + i * 128 + 64, second);
    const __m512i starts = starts_of(first, second);
    _mm512_storeu_si512(base + layout.quad_starts() + i * 64, starts);
    _mm_storeu_ps(sums + 4 * i, _mm_mul_ps(sums_of_four(starts), _mm_loadu_ps(scales + 4 * i)));
  }
}

void vnni_matvec_quantised(DType dtype, const MatvecArgs& args) {
  VisitWeightType(dtype, [&](auto type) {
    if constexpr (!kIsQuantised<type()>) {
      CheckFailed(__FILE__, __LINE__, "quantised dtype");
    } else if constexpr (type() == DType::kQ8_0) {
      matvec_many<Q8Dot>(args);
    } else if constexpr (type() == DType::kQ6_K) {
      vnni_matvec_q6_k(args);
    } else if constexpr (type() == DType::kQ4_1) {
      vnni_matvec_q4_1(args);
    } else if constexpr (type() == DType::kQ4_0) {
      matvec_many<Q4Dot>(args);
    } else if constexpr (kIsOctets<type()>) {
      vnni_matvec_octets(dtype, args);
    } else {
      static_assert(kHandlesType<type()>, "say how the type is multiplied in int8");
    }
  });
}

}  // namespace thermocline::avx512
