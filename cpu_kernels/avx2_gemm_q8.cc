// Multiplies batches of tokens by rows of quantised types in int8. Where weights have four bits, a
// product with a signed byte is at most 15 * 127, so the 16 of a block that share a 16-bit lane
// never overflow it, and go to 32 bits once per block. A byte of Q8_0 is two half-bytes. Weights of
// five to seven bits go to 32 bits at once: a pair is at most 2 * 127 * 127.
#include "cpu_kernels/avx2.h"
#include "cpu_kernels/gemm_integer_avx2.h"

namespace thermocline::avx2 {
namespace {

static_assert(kQuantBlock / 2 * 15 * 127 <= 32767, "a lane's sum of a block must fit");

struct NibbleOp {
  using Sum = __m256i;
  static constexpr int kProducts = 32;
  static constexpr int64_t kBlock = kQuantBlock;
  static constexpr int kPlanes = 1;
  static constexpr bool kOffsets = true;
  static constexpr int kUnroll = 1;
  [[gnu::always_inline]] static inline __m256i multiply_add(__m256i sum, __m256i w, __m256i x) {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x));
  }
  [[gnu::always_inline]] static inline __m256i total(__m256i dots, __m256i /*unused*/) {
    return _mm256_madd_epi16(dots, _mm256_set1_epi16(1));
  }
};
struct TwoNibblesOp : NibbleOp {
  static constexpr int kPlanes = 2;
  static constexpr bool kOffsets = false;
  [[gnu::always_inline]] static inline __m256i total(__m256i high, __m256i low) {
    return _mm256_add_epi32(_mm256_madd_epi16(high, _mm256_set1_epi16(16)),
                            _mm256_madd_epi16(low, _mm256_set1_epi16(1)));
  }
};

struct WideOp : NibbleOp {
  [[gnu::always_inline]] static inline __m256i multiply_add(__m256i sum, __m256i w, __m256i x) {
    return _mm256_add_epi32(sum,
                            _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
  }
  [[gnu::always_inline]] static inline __m256i total(__m256i dots, __m256i /*unused*/) {
    return dots;
  }
};
struct HalvesOp : WideOp {
  static constexpr int64_t kBlock = kQuantBlock / 2;
};

}  // namespace

int64_t gemm_q8_tile_tokens() { return IntegerTile<NibbleOp>::kTileTokens; }
int64_t gemm_q8_input_bytes(int64_t n_tokens, int64_t k) {
  return input_bytes_of<NibbleOp>(n_tokens, k);
}
int64_t gemm_q8_halves_input_bytes(int64_t n_tokens, int64_t k) {
  return input_bytes_of<HalvesOp>(n_tokens, k);
}
void gemm_q8_prepare(const GemmPrepareArgs& args) { prepare_tiles<TwoNibblesOp>(args); }
void gemm_q8_offset_prepare(const GemmPrepareArgs& args) { prepare_tiles<NibbleOp>(args); }
void gemm_q8_halves_prepare(const GemmPrepareArgs& args) { prepare_tiles<HalvesOp>(args); }
int64_t gemm_q8_panel_bytes(int64_t k) { return panel_bytes_of<TwoNibblesOp>(k); }
int64_t gemm_q8_offset_panel_bytes(int64_t k) { return panel_bytes_of<NibbleOp>(k); }
int64_t gemm_q8_halves_panel_bytes(int64_t k) { return panel_bytes_of<HalvesOp>(k); }
void gemm_q8_pack_rows(DType dtype, const GemmPackArgs& args) {
  pack_rows_of<TwoNibblesOp, NibbleOp, WideOp, HalvesOp>(dtype, args);
}
void gemm_q8_multiply(const GemmProduct& product) {
  multiply_tiles<IntegerTile<TwoNibblesOp>>(product);
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
int64_t gemm_q8_multiply_registers(int64_t n) { return multiply_registers<NibbleOp>(n); }
int64_t gemm_q8_wide_multiply_registers(int64_t n) { return multiply_registers<WideOp>(n); }

}  // namespace thermocline::avx2
