// Products of Q8_0 and Q4_0 rows with activations in int8 through VNNI (vpdpbusd: unsigned times
// signed bytes, four at a time, added to int32).
//
// Weights are made unsigned by an offset: Q8_0 as w + 128; Q4_0 as 16 * nibble, which is 16 * (w +
// 8), so both owe 128 * sum(x) afterwards. That sum is known when x is prepared: each int32 lane
// starts from -128 times the sum of its activations, and the offset costs nothing. Largest
// magnitude in a lane: eight activations, 8 * (255 + 128) * 127 < 2^19.
#include "cpu_kernels/avx512.h"
#include "cpu_kernels/convert_simd.h"
#include "cpu_kernels/matvec_rows.h"
#include "cpu_kernels/quad_q4.h"
#include "cpu_kernels/simd_avx512.h"
#include "cpu_kernels/vnni_vector.h"
#include "runtime/core/error.h"

namespace thermocline::avx512 {
namespace {

// Q8_0: two blocks, 68 bytes, to a register.
class Q8Dot {
 public:
  using Reg = __m512;
  static constexpr int kRowGroup = Simd::kRowGroup;
  static constexpr int64_t kPairBytes = 68;
  static constexpr int kStepBytes = 2 * kPairBytes;

  explicit Q8Dot(const MatvecArgs& args)
      : x_(static_cast<const std::byte*>(args.x)),
        layout_(args.n_cols),
        n_blocks_(args.n_cols / kQuantBlock) {}

  int64_t full_steps() const { return n_blocks_ / 4; }

  template <int kRows>
  void step(const std::byte* const* rows, int64_t t, Reg (*sums)[2]) const {
    add_pair<kRows, 0, false>(rows, 2 * t, sums);
    add_pair<kRows, 1, false>(rows, 2 * t + 1, sums);
  }

  template <int kRows>
  void tail(const std::byte* const* rows, Reg (*sums)[2]) const {
    int64_t p = full_steps() * 2;
    for (; 2 * p + 2 <= n_blocks_; ++p) add_pair<kRows, 0, false>(rows, p, sums);
    if (2 * p < n_blocks_) add_pair<kRows, 1, true>(rows, p, sums);
  }

  static float total(Reg sum0, Reg sum1) { return Simd::sum(Simd::add(sum0, sum1)); }

 private:
  // kHalf: the pair's second block lies beyond the row and must not be read.
  template <int kRows, int kSum, bool kHalf>
  void add_pair(const std::byte* const* rows, int64_t p, Reg (*sums)[2]) const {
    const __m512i x = _mm512_load_si512(x_ + p * 64);
    const __m512i start = _mm512_load_si512(x_ + layout_.pair_starts() + p * 64);
    const __m512 x_scales = _mm512_load_ps(x_ + layout_.pair_scales() + p * 64);
    const __m512i scale_at = _mm512_castsi256_si512(
        _mm256_setr_epi16(0, 0, 0, 0, 0, 0, 0, 0, 17, 17, 17, 17, 17, 17, 17, 17));
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const std::byte* w = rows[r] + p * kPairBytes;
      __m512i head;   // the first 64 bytes, in which both scales are
      __m512i bytes;  // the 64 weights
      if constexpr (kHalf) {
        head = _mm512_maskz_loadu_epi8((uint64_t{1} << 34) - 1, w);
        bytes = _mm512_maskz_loadu_epi8((uint64_t{1} << 32) - 1, w + 2);
      } else {
        head = _mm512_loadu_si512(w);
        const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + 2));
        const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + 36));
        bytes = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
      }
      const __m256i halves = _mm512_castsi512_si256(_mm512_permutexvar_epi16(scale_at, head));
      const Reg scales = _mm512_mul_ps(_mm512_cvtph_ps(halves), x_scales);
      const __m512i weights = _mm512_xor_si512(bytes, _mm512_set1_epi8(-128));
      const __m512i dots = _mm512_dpbusd_epi32(start, weights, x);
      sums[r][kSum] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scales, sums[r][kSum]);
    }
  }

  const std::byte* x_;
  VnniVector layout_;
  int64_t n_blocks_;
};

// Q4_0: four blocks, 72 bytes, to a register of 128 nibbles.
class Q4Dot {
 public:
  using Reg = __m512;
  static constexpr int kRowGroup = Simd::kRowGroup;
  static constexpr int64_t kQuadBytes = 72;
  static constexpr int kStepBytes = 2 * kQuadBytes;

  explicit Q4Dot(const MatvecArgs& args)
      : x_(static_cast<const std::byte*>(args.x)),
        layout_(args.n_cols),
        n_blocks_(args.n_cols / kQuantBlock) {}

  int64_t full_steps() const { return n_blocks_ / 8; }

  template <int kRows>
  void step(const std::byte* const* rows, int64_t t, Reg (*sums)[2]) const {
    add_quad<kRows, 0, false>(rows, 2 * t, sums);
    add_quad<kRows, 1, false>(rows, 2 * t + 1, sums);
  }

  template <int kRows>
  void tail(const std::byte* const* rows, Reg (*sums)[2]) const {
    int64_t i = full_steps() * 2;
    for (; 4 * i + 4 <= n_blocks_; ++i) add_quad<kRows, 0, false>(rows, i, sums);
    if (4 * i < n_blocks_) add_quad<kRows, 1, true>(rows, i, sums);
  }

  // A weight counts 16 in the integer sums.
  static float total(Reg sum0, Reg sum1) { return Simd::sum(Simd::add(sum0, sum1)) * (1.0F / 16); }

 private:
  // kPart: the row ends before the quad does.
  template <int kRows, int kSum, bool kPart>
  void add_quad(const std::byte* const* rows, int64_t i, Reg (*sums)[2]) const {
    const __m512i x_first = _mm512_load_si512(x_ + layout_.quad_bytes() + i * 128);
    const __m512i x_second = _mm512_load_si512(x_ + layout_.quad_bytes() + i * 128 + 64);
    const __m512i start = _mm512_load_si512(x_ + layout_.quad_starts() + i * 64);
    const __m512 x_scales = _mm512_load_ps(x_ + layout_.quad_scales() + i * 64);
    const __m512i top = _mm512_set1_epi8(-16);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const std::byte* w = rows[r] + i * kQuadBytes;
      const QuadQ4 quad = kPart ? load_part_of_quad_q4(w, n_blocks_ - 4 * i) : load_quad_q4(w);
      const __m512i low = _mm512_and_si512(_mm512_slli_epi16(quad.nibbles, 4), top);
      const __m512i high = _mm512_and_si512(quad.nibbles, top);
      __m512i dots = _mm512_dpbusd_epi32(start, low, x_first);
      dots = _mm512_dpbusd_epi32(dots, high, x_second);
      const Reg scales = _mm512_mul_ps(_mm512_cvtph_ps(quad.scales), x_scales);
      sums[r][kSum] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scales, sums[r][kSum]);
    }
  }

  const std::byte* x_;
  VnniVector layout_;
  int64_t n_blocks_;
};

// -128 times the sums of the activations that share an int32 lane.
__m512i starts_of(__m512i first, __m512i second) {
  const __m512i ones = _mm512_set1_epi8(1);
  const __m512i sums =
      _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, first), ones, second);
  return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sums, 7));
}

}  // namespace

int64_t vnni_q8_bytes(int64_t n) { return VnniVector(n).total(); }

void vnni_prepare_q8(const float* x, int64_t n, void* out) {
  const VnniVector layout(n);
  auto* base = static_cast<std::byte*>(out);
  const __m512i each_8_times = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  const __m512i each_4_times = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  for (int64_t i = 0; i < layout.n_quads; ++i) {
    alignas(64) int8_t q[4 * kQuantBlock] = {};
    alignas(64) float scales[16] = {};
    for (int64_t b = 0; b < 4 && (4 * i + b) * kQuantBlock < n; ++b) {
      quantise_activations<Simd>(x + (4 * i + b) * kQuantBlock, q + b * kQuantBlock, scales + b);
    }
    const __m512i pairs[2] = {_mm512_load_si512(q), _mm512_load_si512(q + 64)};
    const __m512 d = _mm512_load_ps(scales);
    const __m512 pair_d[2] = {d, _mm512_permute_ps(d, 0x0e)};  // 2nd: d[2], d[3] in front
    for (int64_t p = 2 * i; p < 2 * i + 2 && p < layout.n_pairs; ++p) {
      const __m512i bytes = pairs[p % 2];
      _mm512_storeu_si512(base + p * 64, bytes);
      _mm512_storeu_si512(base + layout.pair_starts() + p * 64,
                          starts_of(bytes, _mm512_setzero_si512()));
      _mm512_storeu_ps(base + layout.pair_scales() + p * 64,
                       _mm512_permutexvar_ps(each_8_times, pair_d[p % 2]));
    }
    const __m512i first = _mm512_shuffle_i32x4(pairs[0], pairs[1], 0x88);
    const __m512i second = _mm512_shuffle_i32x4(pairs[0], pairs[1], 0xdd);
    _mm512_storeu_si512(base + layout.quad_bytes() + i * 128, first);
    _mm512_storeu_si512(base + layout.quad_bytes() + i * 128 + 64, second);
    _mm512_storeu_si512(base + layout.quad_starts() + i * 64, starts_of(first, second));
    _mm512_storeu_ps(base + layout.quad_scales() + i * 64, _mm512_permutexvar_ps(each_4_times, d));
  }
}

void vnni_matvec_quantised(DType dtype, const MatvecArgs& args) {
  if (dtype == DType::kQ8_0) return matvec_rows<Q8Dot>(args);
  if (dtype == DType::kQ6_K) return vnni_matvec_q6_k(args);
  if (dtype == DType::kQ4_0) return matvec_rows<Q4Dot>(args);
  CheckFailed(__FILE__, __LINE__, "quantised dtype");
}

}  // namespace thermocline::avx512
