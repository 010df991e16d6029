// Products of Q8_0, Q6_K, Q4_1 and Q4_0 rows with activations in int8, by multiplying unsigned with
// signed bytes.
#include "cpu_kernels/avx2.h"
#include "cpu_kernels/block_dot_avx2.h"
#include "cpu_kernels/convert_simd.h"
#include "cpu_kernels/octet_dot_avx2.h"
#include "runtime/core/error.h"

namespace thermocline::avx2 {
namespace {

// Q6_K has two integer scales beside d. The sums of 16-bit pairs are multiplied by them where the
// other types' are multiplied by 1. The weights are unsigned factors from 0 to 63 that stand for
// -32 to 31, and what that adds is taken from the pairs. All is exact: a pair is at most 2 * 63 *
// 127.
class Q6kDot {
 public:
  using Reg = __m256;
  static constexpr int kRowGroup = Simd::kRowGroup;
  static constexpr int kStepBytes = q6_k::kBytes;

  explicit Q6kDot(const MatvecArgs& args)
      : x_(static_cast<const std::byte*>(args.x)),
        scales_(reinterpret_cast<const float*>(x_ + scales_offset(args.n_cols))),
        n_blocks_(args.n_cols / kSuperBlock) {}

  int64_t full_steps() const { return n_blocks_; }

  template <int kRows>
  void step(const std::byte* const* rows, int64_t t, Reg (*sums)[2]) const {
    for (int r = 0; r < kRows; ++r) {
      const std::byte* p = rows[r] + t * q6_k::kBytes;
      const Reg d = Simd::broadcast_f16(p + q6_k::kDAt);
      half<0>(p, t * q6_k::kChunks, d, sums[r]);
      half<1>(p, t * q6_k::kChunks + 4, d, sums[r]);
    }
  }

  template <int kRows>
  void tail(const std::byte* const* /*rows*/, Reg (* /*sums*/)[2]) const {}

  static float total(Reg sum0, Reg sum1) { return Simd::sum(Simd::add(sum0, sum1)); }

 private:
  // Four chunks of the block at p, of x from block b on.
  template <int kHalf>
  [[gnu::always_inline]] inline void half(const std::byte* p, int64_t b, Reg d, Reg* sums) const {
    const __m128i bytes = _mm_loadl_epi64(
        reinterpret_cast<const __m128i*>(p + q6_k::kScalesAt + kHalf * q6_k::kChunks));
    const __m256i scales = _mm256_broadcastsi128_si256(_mm_cvtepi8_epi16(bytes));
    // Word 2 j of the eight is for a chunk's first 16 weights, word 2 j + 1 for its second.
    const __m256i first = _mm256_set_m128i(_mm_set1_epi16(0x0302), _mm_set1_epi16(0x0100));
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const int64_t c = 4 * kHalf + j;
      const __m256i w = Simd::unsigned_six_bits(p + q6_k::LowAt(c), q6_k::LowShift(c),
                                                p + q6_k::HighAt(c), q6_k::HighShift(c));
      const __m256i x =
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x_ + (b + j) * kQuantBlock));
      const __m256i excess = _mm256_slli_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), x), 5);
      const __m256i pairs = _mm256_sub_epi16(_mm256_maddubs_epi16(w, x), excess);
      const __m256i at = _mm256_add_epi8(first, _mm256_set1_epi8(static_cast<char>(4 * j)));
      const __m256i fours = _mm256_madd_epi16(pairs, _mm256_shuffle_epi8(scales, at));
      const Reg scale = Simd::mul(d, Simd::set1(scales_[b + j]));
      sums[j % 2] = Simd::fma(_mm256_cvtepi32_ps(fours), scale, sums[j % 2]);
    }
  }

  const std::byte* x_;
  const float* scales_;
  int64_t n_blocks_;
};

}  // namespace

int64_t q8_bytes(int64_t n) { return Q8Vector(n).total(); }

void prepare_q8(const float* x, int64_t n, void* out) {
  const Q8Vector layout(n);
  auto* q = static_cast<int8_t*>(out);
  auto* scales = reinterpret_cast<float*>(q + layout.scales());
  auto* sums = reinterpret_cast<float*>(q + layout.sums());
  auto* half_sums = reinterpret_cast<float*>(q + layout.half_sums());
  for (int64_t b = 0; b < n / kQuantBlock; ++b) {
    quantise_activations<Simd>(x + b * kQuantBlock, q + b * kQuantBlock, scales + b);
    const auto* bytes = reinterpret_cast<const __m256i*>(q + b * kQuantBlock);
    const __m256i fours = Maddubs::fours(_mm256_set1_epi8(1), _mm256_loadu_si256(bytes));
    const __m256i pairs = _mm256_hadd_epi32(fours, fours);
    const __m256i halves = _mm256_hadd_epi32(pairs, pairs);
    const int first = _mm256_extract_epi32(halves, 0);
    const int second = _mm256_extract_epi32(halves, 4);
    half_sums[2 * b] = scales[b] * static_cast<float>(first);
    half_sums[2 * b + 1] = scales[b] * static_cast<float>(second);
    sums[b] = scales[b] * static_cast<float>(first + second);
  }
  for (int64_t b = n / kQuantBlock; b < layout.n_blocks(); ++b) {
    std::memset(q + b * kQuantBlock, 0, kQuantBlock);
    scales[b] = sums[b] = half_sums[2 * b] = half_sums[2 * b + 1] = 0.0F;
  }
}

void matvec_quantised(DType dtype, const MatvecArgs& args) {
  VisitWeightType(dtype, [&](auto type) {
    if constexpr (!kIsQuantised<type()>) {
      CheckFailed(__FILE__, __LINE__, "quantised dtype");
    } else if constexpr (type() == DType::kQ6_K) {
      matvec_rows<Q6kDot>(args);
    } else if constexpr (kIsOctets<type()>) {
      matvec_rows<OctetDot<type(), Maddubs>>(args);
    } else {
      matvec_rows<BlockDot<type(), Maddubs>>(args);
    }
  });
}

}  // namespace thermocline::avx2
