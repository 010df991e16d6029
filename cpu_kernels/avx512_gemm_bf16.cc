// Multiplies batches of tokens by weights in bf16 through vdpbf16ps: BF16 rows, and matrices with a
// row per neuron whose types have no more than bf16's precision (their blocks lie across the sums,
// so int8 products cannot serve). The instruction takes pairs along k and treats subnormals as
// zeros.
#include "cpu_kernels/avx512.h"
#include "cpu_kernels/gemm_float_avx512.h"
#include "runtime/core/error.h"

namespace thermocline::avx512 {
namespace {

struct Bf16Op {
  using Sum = __m512;
  static constexpr int kStep = 2;
  static constexpr int kProducts = 32;
  [[gnu::always_inline]] static inline __m512 multiply_add(__m512 sum, __m512i w, __m512i x) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(w), reinterpret_cast<__m512bh>(x));
  }
};
using Tile = FloatTile<Bf16Op>;

// Puts each lane's `first` in its lower half and `second` in the upper.
[[gnu::always_inline]] inline __m512i pair_bf16(__m512 first, __m512 second) {
  const __m512i pairs_at =
      _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                       21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const auto halves = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
  return _mm512_permutexvar_epi16(pairs_at, halves);
}

template <class W>
void pack_columns(const GemmPackArgs& args) {
  const int64_t panel_bytes = gemm_bf16_panel_bytes(args.n_rows);
  for_columns<W, 2>(args, [&](int64_t i, int64_t panel, const __m512* w0, const __m512* w1) {
    std::byte* out = args.panels + panel * panel_bytes + i * Tile::kPanelStepBytes;
    _mm512_store_si512(out, pair_bf16(w0[0], w1[0]));
    _mm512_store_si512(out + 64, pair_bf16(w0[1], w1[1]));
  });
}

}  // namespace

int64_t gemm_bf16_tile_tokens() { return Tile::kTileTokens; }
int64_t gemm_bf16_input_bytes(int64_t n_tokens, int64_t k) { return n_tokens * ((k + 1) / 2) * 4; }
int64_t gemm_bf16_panel_bytes(int64_t k) { return (k + 1) / 2 * Tile::kPanelStepBytes; }

void gemm_bf16_prepare(const GemmPrepareArgs& args) {
  prepare_words<Tile>(args, [](const float* x, int64_t n) {
    const __m512 first = Simd::load_n(x, n < 16 ? n : 16);
    const __m512 second = Simd::load_n(x + 16, n > 16 ? n - 16 : 0);
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
  });
}

void gemm_bf16_pack_rows(DType dtype, const GemmPackArgs& args) {
  if (dtype != DType::kBF16) CheckFailed(__FILE__, __LINE__, "bf16 rows");
  const int64_t k = args.end - args.begin;
  const std::byte* w = args.w + args.begin * 2;
  std::byte* panel = args.panels;
  LinePrefetcher ahead(args.ahead);
  for (int64_t r = 0; r < args.n_rows; r += kGemmPanel) {
    for (int64_t group = 0; group < 2; ++group) {
      const int64_t left = args.n_rows - r - group * 16;
      const int64_t n = left < 0 ? 0 : left < 16 ? left : 16;
      const std::byte* rows = w + (r + group * 16) * args.row_stride_bytes;
      pack_16_rows<16>(n, (k + 1) / 2, panel + group * 64, ahead, [&](int row, int64_t i, int64_t) {
        const std::byte* p = rows + row * args.row_stride_bytes + i * 4;
        const int64_t weights = k - i * 2;
        if (weights >= 32) return _mm512_loadu_si512(p);
        return _mm512_maskz_loadu_epi16(static_cast<__mmask32>((1U << weights) - 1U), p);
      });
    }
    panel += gemm_bf16_panel_bytes(k);
  }
}

void gemm_bf16_pack_columns(DType dtype, const GemmPackArgs& args) {
  VisitWeightType(dtype, [&](auto type) {
    if constexpr (type() == DType::kBF16 || kIsQuantised<type()>) {
      pack_columns<Weights<Simd, type()>>(args);
    } else if constexpr (type() == DType::kF32 || type() == DType::kF16) {
      CheckFailed(__FILE__, __LINE__, "type of bf16's precision");  // columns_form takes another
    } else {
      static_assert(kHandlesType<type()>, "say whether columns of the type are packed as bf16");
    }
  });
}

void gemm_bf16_multiply(const GemmProduct& product) { multiply_tiles<Tile>(product); }
int64_t gemm_bf16_multiply_registers(int64_t n) { return multiply_registers<Bf16Op>(n); }

}  // namespace thermocline::avx512
