// Multiplies batches of tokens by rows of quantised types in integers. Multiplied as bytes, what
// fits a lane of 16 bits together is summed there before it goes to 32 bits: a product is at most
// 127 times the weight's largest integer. Weights of eight bits are multiplied in 16 bits, where
// two products are one of 32.
#include "cpu_kernels/avx2.h"
#include "cpu_kernels/gemm_integer_avx2.h"

namespace thermocline::avx2 {
namespace {

// Whose integers are from 0 to kMost.
template <int kMost, int kValues>
struct BytesOp {
  using Sum = __m256i;
  static constexpr int kProducts = 32;
  static constexpr int64_t kBlock = kValues;
  static constexpr int kWordValues = 4;
  static constexpr Origin kOrigin = Origin::kOffsets;
  static constexpr int kCentre = 0;
  static constexpr int kMostByte = kMost;
  static constexpr int kFit = 32767 / (2 * 127 * kMost);  // words
  static constexpr int kLaneWords = kFit < 2 ? 0 : kFit < 4 ? 2 : kFit < 8 ? 4 : 8;
  static constexpr int kUnroll = kLaneWords == 2 ? 2 : 4;
  static_assert(kFit >= 1);
  [[gnu::always_inline]] static inline __m256i multiply_add(__m256i sum, __m256i w, __m256i x) {
    const __m256i pairs = _mm256_maddubs_epi16(w, x);
    if constexpr (kLaneWords * 4 == kBlock) return _mm256_add_epi16(sum, pairs);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};
using NibbleOp = BytesOp<15, kQuantBlock>;
using WideOp = BytesOp<31, kQuantBlock>;
using HalvesOp = BytesOp<126, kQuantBlock / 2>;
struct CentredOp : BytesOp<63, kQuantBlock / 2> {
  static constexpr Origin kOrigin = Origin::kCentred;
  static constexpr int kCentre = 32;
};
static_assert(NibbleOp::kLaneWords == 8 && WideOp::kLaneWords == 4);
static_assert(CentredOp::kLaneWords == 2 && HalvesOp::kLaneWords == 0);

struct PairsOp {
  using Sum = __m256i;
  static constexpr int kProducts = 16;
  static constexpr int64_t kBlock = kQuantBlock;
  static constexpr int kWordValues = 2;
  static constexpr Origin kOrigin = Origin::kSigned;
  static constexpr int kCentre = 0;
  static constexpr int kMostByte = 127;
  static constexpr int kLaneWords = 0;
  static constexpr int kUnroll = 4;
  [[gnu::always_inline]] static inline __m256i multiply_add(__m256i sum, __m256i w, __m256i x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(w, x));
  }
};

struct Ops {
  using Whole = PairsOp;
  using Offset = NibbleOp;
  using Wide = WideOp;
  using Halves = HalvesOp;
  using Centred = CentredOp;
  static constexpr GemmForm form_of(DType weights) { return avx2_form(weights); }
};

}  // namespace

int64_t gemm_q8_tile_tokens() { return IntegerTile<NibbleOp>::kTileTokens; }
int64_t gemm_pairs_input_bytes(int64_t n_tokens, int64_t k) {
  return input_bytes_of<PairsOp>(n_tokens, k);
}
int64_t gemm_q8_input_bytes(int64_t n_tokens, int64_t k) {
  return input_bytes_of<NibbleOp>(n_tokens, k);
}
int64_t gemm_q8_halves_input_bytes(int64_t n_tokens, int64_t k) {
  return input_bytes_of<HalvesOp>(n_tokens, k);
}
void gemm_pairs_prepare(const GemmPrepareArgs& args) { prepare_tiles<PairsOp>(args); }
void gemm_q8_offset_prepare(const GemmPrepareArgs& args) { prepare_tiles<NibbleOp>(args); }
void gemm_q8_halves_prepare(const GemmPrepareArgs& args) { prepare_tiles<HalvesOp>(args); }
void gemm_q8_centred_prepare(const GemmPrepareArgs& args) { prepare_tiles<CentredOp>(args); }
int64_t gemm_pairs_panel_bytes(int64_t k) { return panel_bytes_of<PairsOp>(k); }
int64_t gemm_q8_offset_panel_bytes(int64_t k) { return panel_bytes_of<NibbleOp>(k); }
int64_t gemm_q8_halves_panel_bytes(int64_t k) { return panel_bytes_of<HalvesOp>(k); }
int64_t gemm_q8_centred_panel_bytes(int64_t k) { return panel_bytes_of<CentredOp>(k); }
void gemm_q8_pack_rows(DType dtype, const GemmPackArgs& args) { pack_rows_of<Ops>(dtype, args); }
void gemm_pairs_multiply(const GemmProduct& product) {
  multiply_tiles<IntegerTile<PairsOp>>(product);
}
void gemm_q8_offset_multiply(const GemmProduct& product) {
  multiply_tiles<IntegerTile<NibbleOp>>(product);
}
void gemm_q8_wide_multiply(const GemmProduct& product) {
  multiply_tiles<IntegerTile<WideOp>>(product);
}
void gemm_q8_halves_multiply(const GemmProduct& product) {
  multiply_tiles<IntegerTile<HalvesOp>>(product);
}
void gemm_q8_centred_multiply(const GemmProduct& product) {
  multiply_tiles<IntegerTile<CentredOp>>(product);
}
int64_t gemm_pairs_multiply_registers(int64_t n) { return multiply_registers<PairsOp>(n); }
int64_t gemm_q8_multiply_registers(int64_t n) { return multiply_registers<NibbleOp>(n); }
int64_t gemm_q8_halves_multiply_registers(int64_t n) { return multiply_registers<HalvesOp>(n); }

}  // namespace thermocline::avx2
