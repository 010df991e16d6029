// Multiplies Q6_K rows by activations in int8 through VNNI.
//
// A register takes two chunks, 64 columns: their low nibbles lie side by side, and the high bits of
// four chunks share 32 bytes. Weights stay unsigned, w + 32, and owe 32 * sum(x): a fourth of the
// starts that the prepared vector holds for Q8_0. An int32 lane then holds four products, of at
// most 4 * (63 + 32) * 127 < 2^16, whose 16 weights share a scale: d times it (exact in f32) times
// d of x.
#include "cpu_kernels/avx512.h"
#include "cpu_kernels/matvec_many.h"
#include "cpu_kernels/rows_and_tokens.h"
#include "cpu_kernels/simd_avx512.h"
#include "cpu_kernels/vnni_vector.h"
#include "runtime/core/q6_k_block.h"

namespace thermocline::avx512 {
namespace {

// Two chunks of x.
struct Pair {
  __m512i x;
  __m512i start;
  __m512 scales;

  [[gnu::always_inline]] Pair(const std::byte* vector, const VnniVector& layout, int64_t p)
      : x(_mm512_load_si512(vector + p * 64)),
        start(_mm512_srai_epi32(_mm512_load_si512(vector + layout.pair_starts() + p * 64), 2)),
        scales(each_8_times(layout.scales_of(vector) + 2 * p)) {}

  // Returns sum + weights . x. scale_at says where each lane's scale lies among those of the half
  // block.
  [[gnu::always_inline]] __m512 add(__m512i weights, __m512 half_scales, __m512i scale_at,
                                    __m512 sum) const {
    const __m512i dots = _mm512_dpbusd_epi32(start, weights, x);
    const __m512 scale = _mm512_mul_ps(_mm512_permutexvar_ps(scale_at, half_scales), scales);
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scale, sum);
  }
};

class Q6kDot {
 public:
  using Reg = __m512;
  static constexpr int kRowGroup = Simd::kRowGroup;
  static constexpr int kStepBytes = q6_k::kBytes;
  static constexpr int64_t kVectorStepBytes = 4 * (128 + 8);
  static constexpr int64_t kMostTokens = 6;
  template <int kTokens>
  static constexpr int kManyRows = kTokens <= 2 ? 2 : 1;

  explicit Q6kDot(const MatvecArgs& args)
      : x_(static_cast<const std::byte*>(args.x)),
        x_stride_(args.x_stride_bytes),
        layout_(args.n_cols),
        n_blocks_(args.n_cols / kSuperBlock) {}

  int64_t full_steps() const { return n_blocks_; }

  template <int kRows, int kTokens = 1>
  void step(const std::byte* const* rows, int64_t t, Reg (*sums)[2]) const {
    half<kRows, kTokens, 0>(rows, t, sums);
    half<kRows, kTokens, 1>(rows, t, sums);
  }

  template <int kRows, int kTokens = 1>
  void tail(const std::byte* const* /*rows*/, Reg (* /*sums*/)[2]) const {}

  static float total(Reg sum0, Reg sum1) { return Simd::sum(Simd::add(sum0, sum1)); }

 private:
  // Four chunks of a row, and the scales of their halves.
  struct Half {
    __m512i first;
    __m512i second;
    __m512 scales;
  };
  struct Pairs {
    Pair first;
    Pair second;
  };

  // Chunks 0 and 1 of the half are the low nibbles of 64 bytes, 2 and 3 the high ones.
  template <int kHalf>
  [[gnu::always_inline]] static inline Half read_half(const std::byte* p) {
    // The high bits are in both halves of the register; bits 0-1 and 2-3 go to 4-5, then 4-5 and
    // 6-7. Bits that cross into a neighbouring byte do not arrive at 4-5.
    const __m512i left = _mm512_inserti64x4(_mm512_set1_epi16(4), _mm256_set1_epi16(2), 1);
    const __m512i right = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(2), 1);
    const __m512i low_bits = _mm512_set1_epi8(0x0f);
    const __m512i high_bits = _mm512_set1_epi8(0x30);
    constexpr int kAOrBAndC = 0xf8;
    const __m512i low = _mm512_loadu_si512(p + kHalf * 64);
    const __m512i high = _mm512_broadcast_i64x4(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + q6_k::kHighAt + kHalf * 32)));
    const __m256 integer_scales = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(
        reinterpret_cast<const __m128i*>(p + q6_k::kScalesAt + kHalf * q6_k::kChunks))));
    int16_t d;
    std::memcpy(&d, p + q6_k::kDAt, sizeof(d));
    const __m512 scales =
        _mm512_castps256_ps512(_mm256_mul_ps(integer_scales, _mm256_cvtph_ps(_mm_set1_epi16(d))));
    const __m512i first = _mm512_ternarylogic_epi32(
        _mm512_and_si512(low, low_bits), _mm512_sllv_epi16(high, left), high_bits, kAOrBAndC);
    const __m512i second =
        _mm512_ternarylogic_epi32(_mm512_and_si512(_mm512_srli_epi16(low, 4), low_bits),
                                  _mm512_srlv_epi16(high, right), high_bits, kAOrBAndC);
    return {first, second, scales};
  }

  // Takes four chunks of block t.
  template <int kRows, int kTokens, int kHalf>
  [[gnu::always_inline]] inline void half(const std::byte* const* rows, int64_t t,
                                          Reg (*sums)[2]) const {
    const __m512i lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m512i next_lanes = _mm512_setr_epi32(4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7);
    each_row_and_token<kRows, kTokens>(
        [&](int token) __attribute__((always_inline)) {
          const std::byte* const vector = x_ + token * x_stride_;
          return Pairs{Pair(vector, layout_, 4 * t + 2 * kHalf),
                       Pair(vector, layout_, 4 * t + 2 * kHalf + 1)};
        },
        [&](int r)
            __attribute__((always_inline)) { return read_half<kHalf>(rows[r] + t * q6_k::kBytes); },
        [&](int r, int token, const Half& w, const Pairs& x) __attribute__((always_inline)) {
          Reg* const sum = sums[r * kTokens + token];
          sum[0] = x.first.add(w.first, w.scales, lanes, sum[0]);
          sum[1] = x.second.add(w.second, w.scales, next_lanes, sum[1]);
        });
  }

  const std::byte* x_;
  int64_t x_stride_;
  VnniVector layout_;
  int64_t n_blocks_;
};

}  // namespace

void vnni_matvec_q6_k(const MatvecArgs& args) { matvec_many<Q6kDot>(args); }

}  // namespace thermocline::avx512
