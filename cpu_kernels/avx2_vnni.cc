// Products of quantised rows with one token and with batches through AVX-VNNI, which sums four
// products of bytes in 32 bits. Q8_0's bytes are unsigned as w + 128, which owes 128 * sum(x).
#include "cpu_kernels/avx2.h"
#include "cpu_kernels/block_dot_avx2.h"
#include "cpu_kernels/gemm_integer_avx2.h"
#include "cpu_kernels/octet_dot_avx2.h"

namespace thermocline::avx2 {
namespace {

struct VnniFours {
  static constexpr bool kWholeBytes = true;
  [[gnu::always_inline]] static inline __m256i fours(__m256i unsigned_bytes, __m256i signed_bytes) {
    return _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), unsigned_bytes, signed_bytes);
  }
  [[gnu::always_inline]] static inline __m256i add_fours(__m256i start, __m256i unsigned_bytes,
                                                         __m256i signed_bytes) {
    return _mm256_dpbusd_avx_epi32(start, unsigned_bytes, signed_bytes);
  }
};

struct VnniOp {
  using Sum = __m256i;
  static constexpr int kProducts = 32;
  static constexpr int64_t kBlock = kQuantBlock;
  static constexpr int kWordValues = 4;
  static constexpr Origin kOrigin = Origin::kCentred;
  static constexpr int kCentre = 128;
  static constexpr int kMostByte = 255;
  static constexpr int kLaneWords = 0;
  static constexpr int kUnroll = 8;
  [[gnu::always_inline]] static inline __m256i multiply_add(__m256i sum, __m256i w, __m256i x) {
    return _mm256_dpbusd_avx_epi32(sum, w, x);
  }
};
struct VnniOffsetOp : VnniOp {
  static constexpr Origin kOrigin = Origin::kOffsets;
};
struct VnniHalvesOp : VnniOffsetOp {
  static constexpr int64_t kBlock = kQuantBlock / 2;
  static constexpr int kUnroll = 4;
};

struct VnniOps {
  using Whole = VnniOp;
  using Offset = VnniOffsetOp;
  using Wide = VnniOffsetOp;
  using Halves = VnniHalvesOp;
  using Centred = void;  // of no type
  static constexpr GemmForm form_of(DType weights) { return integer_form(weights); }
};

}  // namespace

void vnni_matvec_quantised(DType dtype, const MatvecArgs& args) {
  VisitWeightType(dtype, [&](auto type) {
    if constexpr (!kIsQuantised<type()>) {
      CheckFailed(__FILE__, __LINE__, "quantised dtype");
    } else if constexpr (kIsOctets<type()>) {
      matvec_many<OctetDot<type(), VnniFours>>(args);
    } else {
      matvec_many<BlockDot<type(), VnniFours>>(args);
    }
  });
}

void gemm_vnni_prepare(const GemmPrepareArgs& args) { prepare_tiles<VnniOp>(args); }
int64_t gemm_vnni_panel_bytes(int64_t k) { return panel_bytes_of<VnniOp>(k); }
int64_t gemm_vnni_offset_panel_bytes(int64_t k) { return panel_bytes_of<VnniOffsetOp>(k); }
int64_t gemm_vnni_halves_panel_bytes(int64_t k) { return panel_bytes_of<VnniHalvesOp>(k); }
void gemm_vnni_pack_rows(DType dtype, const GemmPackArgs& args) {
  pack_rows_of<VnniOps>(dtype, args);
}
void gemm_vnni_multiply(const GemmProduct& product) {
  multiply_tiles<IntegerTile<VnniOp>>(product);
}
void gemm_vnni_offset_multiply(const GemmProduct& product) {
  multiply_tiles<IntegerTile<VnniOffsetOp>>(product);
}
void gemm_vnni_halves_multiply(const GemmProduct& product) {
  multiply_tiles<IntegerTile<VnniHalvesOp>>(product);
}
int64_t gemm_vnni_multiply_registers(int64_t n) { return multiply_registers<VnniOp>(n); }

}  // namespace thermocline::avx2
