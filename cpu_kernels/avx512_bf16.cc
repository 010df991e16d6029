// Products of BF16 rows through vdpbf16ps. The activations are split as x = hi + lo, both bf16, so
// that 16 bits of their mantissa take part; the instruction treats subnormals as zeros.
#include "cpu_kernels/avx512.h"
#include "cpu_kernels/matvec_many.h"
#include "cpu_kernels/simd_avx512.h"

namespace thermocline::avx512 {
namespace {

constexpr int64_t kGroup = 32;           // columns of one register of bf16
constexpr int64_t kGroupBytes = 2 * 64;  // prepared: 32 hi, then 32 lo

__m512bh as_bf16(__m512i x) { return reinterpret_cast<__m512bh>(x); }

class Bf16Dot {
 public:
  using Reg = __m512;
  static constexpr int kRowGroup = Simd::kRowGroup;
  static constexpr int kStepBytes = 64;
  static constexpr int64_t kVectorStepBytes = kGroupBytes;
  static constexpr int64_t kMostTokens = 8;
  template <int kTokens>
  static constexpr int kManyRows = 1;

  explicit Bf16Dot(const MatvecArgs& args)
      : x_(static_cast<const std::byte*>(args.x)),
        x_stride_(args.x_stride_bytes),
        n_cols_(args.n_cols) {}

  int64_t full_steps() const { return n_cols_ / kGroup; }

  template <int kRows, int kTokens = 1>
  void step(const std::byte* const* rows, int64_t t, Reg (*sums)[2]) const {
    for (int r = 0; r < kRows; ++r) {
      add<kTokens>(_mm512_loadu_si512(rows[r] + t * kStepBytes), t, sums + r * kTokens);
    }
  }

  template <int kRows, int kTokens = 1>
  void tail(const std::byte* const* rows, Reg (*sums)[2]) const {
    const auto mask = static_cast<__mmask32>((1U << (n_cols_ % kGroup)) - 1U);
    if (mask == 0) return;
    const int64_t t = full_steps();
    for (int r = 0; r < kRows; ++r) {
      add<kTokens>(_mm512_maskz_loadu_epi16(mask, rows[r] + t * kStepBytes), t, sums + r * kTokens);
    }
  }

  static float total(Reg sum0, Reg sum1) { return Simd::sum(Simd::add(sum0, sum1)); }

 private:
  template <int kTokens>
  [[gnu::always_inline]] inline void add(__m512i w, int64_t t, Reg (*sums)[2]) const {
#pragma GCC unroll 8
    for (int token = 0; token < kTokens; ++token) {
      const std::byte* const x = x_ + token * x_stride_ + t * kGroupBytes;
      const __m512i hi = _mm512_load_si512(x);
      const __m512i lo = _mm512_load_si512(x + 64);
      sums[token][0] = _mm512_dpbf16_ps(sums[token][0], as_bf16(w), as_bf16(hi));
      sums[token][1] = _mm512_dpbf16_ps(sums[token][1], as_bf16(w), as_bf16(lo));
    }
  }

  const std::byte* x_;
  int64_t x_stride_;
  int64_t n_cols_;
};

}  // namespace

int64_t bf16_bytes(int64_t n) { return (n + kGroup - 1) / kGroup * kGroupBytes; }

void bf16_prepare(const float* x, int64_t n, void* out) {
  auto* group = static_cast<uint16_t*>(out);
  for (int64_t i = 0; i < bf16_bytes(n) / kGroupBytes * kGroup; i += Simd::kLanes) {
    const int64_t left = i >= n ? 0 : n - i < Simd::kLanes ? n - i : Simd::kLanes;
    const __m512 value = Simd::load_n(x + i, left);
    uint16_t* hi = group + i / kGroup * (2 * kGroup) + i % kGroup;
    Simd::store_bf16(hi, value);
    const __m512 rest = _mm512_sub_ps(value, Simd::load_bf16(hi));
    // Infinity and NaN have no rest: hi alone carries them.
    const __mmask16 finite =
        _mm512_cmp_ps_mask(_mm512_abs_ps(rest), _mm512_set1_ps(__builtin_inff()), _CMP_LT_OQ);
    Simd::store_bf16(hi + kGroup, _mm512_maskz_mov_ps(finite, rest));
  }
}

void bf16_matvec(const MatvecArgs& args) { matvec_many<Bf16Dot>(args); }

}  // namespace thermocline::avx512
