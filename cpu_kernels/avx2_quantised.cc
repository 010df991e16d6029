// Products of Q8_0, Q6_K, Q4_1 and Q4_0 rows with activations in int8, by multiplying unsigned with
// signed bytes.
#include <cstring>

#include "cpu_kernels/avx2.h"
#include "cpu_kernels/convert_simd.h"
#include "cpu_kernels/matvec_rows.h"
#include "cpu_kernels/simd_avx2.h"
#include "runtime/core/error.h"

namespace thermocline::avx2 {
namespace {

// A prepared vector: n int8, padded to a multiple of 64 bytes, then one f32 scale per block.
int64_t scales_offset(int64_t n) { return (n + 63) / 64 * 64; }

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

template <>
struct Block<DType::kQ4_0> {
  static __m256i load(const std::byte* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 2));
    const __m256i both = _mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes);
    const __m256i nibbles = _mm256_and_si256(both, _mm256_set1_epi8(15));
    return _mm256_sub_epi8(nibbles, _mm256_set1_epi8(8));
  }
};

// Q4_1's nibbles are unsigned as they are, 0 to 15.
template <>
struct Block<DType::kQ4_1> {
  static __m256i load(const std::byte* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 4));
    const __m256i both = _mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
  }
};

template <DType kType>
class BlockDot {
 public:
  using Reg = __m256;
  static constexpr int kRowGroup = Simd::kRowGroup;
  static constexpr int kStepBlocks = 4;
  static constexpr int kStepBytes = kStepBlocks * kTypeBlockBytes<kType>;

  explicit BlockDot(const MatvecArgs& args)
      : x_(static_cast<const std::byte*>(args.x)),
        scales_(reinterpret_cast<const float*>(x_ + scales_offset(args.n_cols))),
        n_blocks_(args.n_cols / kQuantBlock) {}

  int64_t full_steps() const { return n_blocks_ / kStepBlocks; }

  template <int kRows>
  void step(const std::byte* const* rows, int64_t t, Reg (*sums)[2]) const {
    for (int b = 0; b < kStepBlocks; ++b) block<kRows>(rows, t * kStepBlocks + b, b % 2, sums);
  }

  template <int kRows>
  void tail(const std::byte* const* rows, Reg (*sums)[2]) const {
    for (int64_t b = full_steps() * kStepBlocks; b < n_blocks_; ++b) block<kRows>(rows, b, 0, sums);
  }

  static float total(Reg sum0, Reg sum1) { return Simd::sum(Simd::add(sum0, sum1)); }

 private:
  // |w| <= 128 is the unsigned factor, and x with the sign of w is the signed one. A pair's sum is
  // at most 2 * 128 * 127 = 32512, so the 16-bit addition cannot saturate.
  template <int kRows>
  void block(const std::byte* const* rows, int64_t b, int sum, Reg (*sums)[2]) const {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x_ + b * kQuantBlock));
    if constexpr (kType == DType::kQ4_1) return block_with_offset<kRows>(rows, b, x, sum, sums);
    for (int r = 0; r < kRows; ++r) {
      const std::byte* p = rows[r] + b * kTypeBlockBytes<kType>;
      const __m256i w = Block<kType>::load(p);
      const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
      const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
      const Reg scale = Simd::mul(Simd::broadcast_f16(p), Simd::set1(scales_[b]));
      sums[r][sum] = Simd::fma(_mm256_cvtepi32_ps(fours), scale, sums[r][sum]);
    }
  }

  static __m256 sums_of_fours(__m256i unsigned_bytes, __m256i signed_bytes) {
    const __m256i pairs = _mm256_maddubs_epi16(unsigned_bytes, signed_bytes);
    return _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }

  // w . x is d sum(q x) + m sum(x). The sums of x are the same for all rows, and one conversion
  // gives d and m, side by side in each pair of lanes.
  template <int kRows>
  [[gnu::always_inline]] inline void block_with_offset(const std::byte* const* rows, int64_t b,
                                                       __m256i x, int sum, Reg (*sums)[2]) const {
    const Reg x_scale = Simd::set1(scales_[b]);
    const Reg x_sums = sums_of_fours(_mm256_set1_epi8(1), x);
    for (int r = 0; r < kRows; ++r) {
      const std::byte* p = rows[r] + b * kTypeBlockBytes<kType>;
      int32_t both;
      std::memcpy(&both, p, sizeof(both));
      const Reg factors = Simd::mul(_mm256_cvtph_ps(_mm_set1_epi32(both)), x_scale);
      const Reg dots = sums_of_fours(Block<kType>::load(p), x);
      sums[r][sum] = Simd::fma(dots, _mm256_moveldup_ps(factors), sums[r][sum]);
      sums[r][sum] = Simd::fma(x_sums, _mm256_movehdup_ps(factors), sums[r][sum]);
    }
  }

  const std::byte* x_;
  const float* scales_;
  int64_t n_blocks_;
};

// Q6_K has two integer scales beside d. The sums of 16-bit pairs are multiplied by them where the
// other types' are multiplied by 1. |w| <= 32, so they are exact: 2 * 2 * 32 * 127 * 128 < 2^21.
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
      const __m256i w = Simd::six_bits(p + q6_k::LowAt(c), q6_k::LowShift(c), p + q6_k::HighAt(c),
                                       q6_k::HighShift(c));
      const __m256i x =
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x_ + (b + j) * kQuantBlock));
      const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
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

int64_t q8_bytes(int64_t n) { return (scales_offset(n) + n / kQuantBlock * 4 + 63) / 64 * 64; }

void prepare_q8(const float* x, int64_t n, void* out) {
  auto* q = static_cast<int8_t*>(out);
  auto* scales = reinterpret_cast<float*>(q + scales_offset(n));
  for (int64_t b = 0; b < n / kQuantBlock; ++b) {
    quantise_activations<Simd>(x + b * kQuantBlock, q + b * kQuantBlock, scales + b);
  }
}

void matvec_quantised(DType dtype, const MatvecArgs& args) {
  VisitWeightType(dtype, [&](auto type) {
    if constexpr (!kIsQuantised<type()>) {
      CheckFailed(__FILE__, __LINE__, "quantised dtype");
    } else if constexpr (type() == DType::kQ6_K) {
      matvec_rows<Q6kDot>(args);
    } else {
      matvec_rows<BlockDot<type()>>(args);
    }
  });
}

}  // namespace thermocline::avx2
