// Products of Q8_0 and Q4_0 rows with activations in int8 through VNNI (vpdpbusd: unsigned times
// signed bytes, four at a time, added to int32). Two blocks of a row, 64 weights, fill a register.
//
// Weights are made unsigned by an offset: Q8_0 as w + 128; Q4_0 as 16 * nibble, which is 16 * (w +
// 8), so both owe 128 * sum(x) afterwards. That sum is known when x is prepared: each int32 lane
// starts from -128 times the sum of its four activations, and the offset costs nothing. Largest
// magnitude in a lane: 4 * (255 + 128) * 127 < 2^18.
#include "cpu_kernels/avx512.h"
#include "cpu_kernels/convert_simd.h"
#include "cpu_kernels/matvec_rows.h"
#include "cpu_kernels/simd_avx512.h"
#include "runtime/core/error.h"

namespace thermocline::avx512 {
namespace {

constexpr int64_t kPairCols = 2 * kQuantBlock;

// A prepared vector, per pair of blocks (the last one padded with zeros): 64 int8; then for all
// pairs 16 int32 starting values; then for all pairs the f32 scales, each in the eight lanes of its
// block.
constexpr int64_t kPairBytes = 3 * 64;
int64_t pairs_of(int64_t n) { return (n + kPairCols - 1) / kPairCols; }

// Where in its row a pair lies. Q4_0 loads 64 bytes for a pair's 36, which it may not do where less
// than four blocks of 18 bytes are left.
enum class Edge { kInside, kNearEnd, kLastBlock };

struct Pair {
  __m512i weights;  // 64 unsigned bytes
  __m512 scales;    // d of the first block in lanes 0..7, of the second in 8..15
};

struct Q8Format {
  static constexpr int kBytes = 68;
  static constexpr float kUnit = 1.0F;

  template <Edge kEdge>
  static Pair load(const std::byte* p) {
    const __m512i offset = _mm512_set1_epi8(-128);
    const __m512i scale_at = _mm512_castsi256_si512(
        _mm256_setr_epi16(0, 0, 0, 0, 0, 0, 0, 0, 17, 17, 17, 17, 17, 17, 17, 17));
    __m512i bytes;
    __m512i block;
    if constexpr (kEdge == Edge::kLastBlock) {
      bytes = _mm512_maskz_loadu_epi8((uint64_t{1} << 34) - 1, p);
      block = _mm512_maskz_loadu_epi8((uint64_t{1} << 32) - 1, p + 2);
    } else {
      bytes = _mm512_loadu_si512(p);
      const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 2));
      const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 36));
      block = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
    }
    const __m512i halves = _mm512_permutexvar_epi16(scale_at, bytes);
    return {_mm512_xor_si512(block, offset), _mm512_cvtph_ps(_mm512_castsi512_si256(halves))};
  }
};

struct Q4Format {
  static constexpr int kBytes = 36;
  static constexpr float kUnit = 1.0F / 16;  // what a weight byte counts

  template <Edge kEdge>
  static Pair load(const std::byte* p) {
    // As 16-bit words: scale 0, nibbles 1..8, scale 9, nibbles 10..17. Each block's nibbles go to
    // two lanes of 128 bits; in the first the low nibble of every byte is shifted to the top.
    const __m512i nibbles_at =
        _mm512_set_epi16(17, 16, 15, 14, 13, 12, 11, 10, 17, 16, 15, 14, 13, 12, 11, 10, 8, 7, 6, 5,
                         4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1);
    const __m512i shift = _mm512_set_epi64(0, 0, 0x0004000400040004, 0x0004000400040004, 0, 0,
                                           0x0004000400040004, 0x0004000400040004);
    const __m512i top = _mm512_set1_epi8(-16);
    const __m256i scale_at = _mm256_setr_epi16(0, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9);
    __m512i bytes;
    if constexpr (kEdge == Edge::kInside) {
      bytes = _mm512_loadu_si512(p);
    } else {
      constexpr int kLeft = kEdge == Edge::kNearEnd ? 36 : 18;
      bytes = _mm512_maskz_loadu_epi8((uint64_t{1} << kLeft) - 1, p);
    }
    const __m512i spread = _mm512_sllv_epi16(_mm512_permutexvar_epi16(nibbles_at, bytes), shift);
    const __m256i halves = _mm256_permutexvar_epi16(scale_at, _mm512_castsi512_si256(bytes));
    return {_mm512_and_si512(spread, top), _mm512_cvtph_ps(halves)};
  }
};

template <class Format>
class PairDot {
 public:
  using Reg = __m512;
  static constexpr int kStepPairs = 2;
  static constexpr int kStepBytes = kStepPairs * Format::kBytes;

  explicit PairDot(const MatvecArgs& args)
      : q_(static_cast<const std::byte*>(args.x)),
        starts_(q_ + pairs_of(args.n_cols) * 64),
        scales_(starts_ + pairs_of(args.n_cols) * 64),
        n_blocks_(args.n_cols / kQuantBlock) {}

  // Every pair of a step has at least four blocks from its own first on.
  int64_t full_steps() const { return n_blocks_ < 2 ? 0 : (n_blocks_ - 2) / (2 * kStepPairs); }

  template <int kRows>
  void step(const std::byte* const* rows, int64_t t, Reg (*sums)[2]) const {
    for (int p = 0; p < kStepPairs; ++p) {
      pair<Edge::kInside, kRows>(rows, t * kStepPairs + p, p % 2, sums);
    }
  }

  template <int kRows>
  void tail(const std::byte* const* rows, Reg (*sums)[2]) const {
    int64_t p = full_steps() * kStepPairs;
    for (; 2 * p + 4 <= n_blocks_; ++p) pair<Edge::kInside, kRows>(rows, p, 0, sums);
    for (; 2 * p + 2 <= n_blocks_; ++p) pair<Edge::kNearEnd, kRows>(rows, p, 1, sums);
    if (2 * p + 1 == n_blocks_) pair<Edge::kLastBlock, kRows>(rows, p, 1, sums);
  }

  static float total(Reg sum0, Reg sum1) {
    return Simd::sum(Simd::add(sum0, sum1)) * Format::kUnit;
  }

 private:
  template <Edge kEdge, int kRows>
  void pair(const std::byte* const* rows, int64_t p, int sum, Reg (*sums)[2]) const {
    const __m512i x = _mm512_load_si512(q_ + p * 64);
    const __m512i start = _mm512_load_si512(starts_ + p * 64);
    const __m512 x_scales = _mm512_load_ps(scales_ + p * 64);
    for (int r = 0; r < kRows; ++r) {
      const Pair w = Format::template load<kEdge>(rows[r] + p * Format::kBytes);
      const __m512i dots = _mm512_dpbusd_epi32(start, w.weights, x);
      const Reg scales = _mm512_mul_ps(w.scales, x_scales);
      sums[r][sum] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scales, sums[r][sum]);
    }
  }

  const std::byte* q_;
  const std::byte* starts_;
  const std::byte* scales_;
  int64_t n_blocks_;
};

}  // namespace

int64_t vnni_q8_bytes(int64_t n) { return pairs_of(n) * kPairBytes; }

void vnni_prepare_q8(const float* x, int64_t n, void* out) {
  const int64_t n_pairs = pairs_of(n);
  auto* q = static_cast<int8_t*>(out);
  auto* starts = q + n_pairs * 64;
  auto* scales = reinterpret_cast<float*>(starts + n_pairs * 64);
  for (int64_t p = 0; p < n_pairs; ++p) {
    for (int64_t b = 0; b < 2; ++b) {
      int8_t* block = q + p * 64 + b * kQuantBlock;
      float scale = 0.0F;
      if (p * kPairCols + b * kQuantBlock < n) {
        quantise_activations<Simd>(x + p * kPairCols + b * kQuantBlock, block, &scale);
      } else {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(block), _mm256_setzero_si256());
      }
      _mm256_storeu_ps(scales + p * 16 + b * 8, _mm256_set1_ps(scale));
    }
    const __m512i bytes = _mm512_loadu_si512(q + p * 64);
    const __m512i sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), bytes);
    const __m512i start = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sums, 7));
    _mm512_storeu_si512(starts + p * 64, start);
  }
}

void vnni_matvec_quantised(DType dtype, const MatvecArgs& args) {
  if (dtype == DType::kQ8_0) return matvec_rows<PairDot<Q8Format>>(args);
  if (dtype == DType::kQ4_0) return matvec_rows<PairDot<Q4Format>>(args);
  check_failed(__FILE__, __LINE__, "quantised dtype");
}

}  // namespace thermocline::avx512
