// Multiplies batches of tokens by weights in f32: F32, and every type where the CPU has nothing
// faster for it or the caller wants it exact.
#include "cpu_kernels/avx512.h"
#include "cpu_kernels/gemm_float_avx512.h"

namespace thermocline::avx512 {
namespace {

struct F32Op {
  using Sum = __m512;
  static constexpr int kStep = 1;
  static constexpr int kProducts = 16;
  [[gnu::always_inline]] static inline __m512 multiply_add(__m512 sum, __m512i w, __m512i x) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), sum);
  }
};
using Tile = FloatTile<F32Op>;

// Cache lines that 16 columns of 16 rows span.
template <class W>
constexpr int kBlockLines = static_cast<int>((16 * 16 * W::kBytes / W::kElems + 63) / 64);

template <class W>
void pack_group(const std::byte* w, int64_t stride, int64_t n, int64_t begin, int64_t end,
                LinePrefetcher& ahead, std::byte* out) {
  if constexpr (W::kBlocks) {
    constexpr int64_t kAtOnce = reads_octets<W>() ? kOctetCols : kQuantBlock;
    for (int64_t col = begin; col < end; col += kAtOnce) {
      const int64_t columns = end - col < kAtOnce ? end - col : kAtOnce;
      float rows[16][kAtOnce];
      for (int64_t r = 0; r < n; ++r) {
        convert_row<Simd, W, ToF32<Simd>>(w + r * stride, col, col + columns, rows[r]);
      }
      pack_16_rows<kBlockLines<W>>(
          n, columns, out + (col - begin) * Tile::kPanelStepBytes, ahead,
          [&](int r, int64_t i, int64_t) { return _mm512_loadu_si512(rows[r] + i); });
    }
  } else {
    const std::byte* first = w + begin * W::kBytes;
    pack_16_rows<4 * W::kBytes>(n, end - begin, out, ahead, [&](int r, int64_t i, int64_t words) {
      const std::byte* p = first + r * stride + i * W::kBytes;
      return _mm512_castps_si512(words == 16 ? W::load(p) : W::load_n(p, words));
    });
  }
}

template <class W>
void pack_rows(const GemmPackArgs& args) {
  std::byte* panel = args.panels;
  LinePrefetcher ahead(args.ahead);
  for (int64_t r = 0; r < args.n_rows; r += kGemmPanel) {
    for (int64_t group = 0; group < 2; ++group) {
      const int64_t left = args.n_rows - r - group * 16;
      const int64_t n = left < 0 ? 0 : left < 16 ? left : 16;
      const std::byte* rows = n > 0 ? args.w + (r + group * 16) * args.row_stride_bytes : args.w;
      pack_group<W>(rows, args.row_stride_bytes, n, args.begin, args.end, ahead,
                    panel + group * 64);
    }
    panel += (args.end - args.begin) * Tile::kPanelStepBytes;
  }
}

template <class W>
void pack_columns(const GemmPackArgs& args) {
  const int64_t panel_bytes = args.n_rows * Tile::kPanelStepBytes;
  for_columns<W, 1>(args, [&](int64_t i, int64_t panel, const __m512* w, const __m512*) {
    std::byte* out = args.panels + panel * panel_bytes + i * Tile::kPanelStepBytes;
    _mm512_store_ps(out, w[0]);
    _mm512_store_ps(out + 64, w[1]);
  });
}

}  // namespace

int64_t gemm_f32_tile_tokens() { return Tile::kTileTokens; }
int64_t gemm_f32_input_bytes(int64_t n_tokens, int64_t k) { return n_tokens * k * 4; }
int64_t gemm_f32_panel_bytes(int64_t k) { return k * Tile::kPanelStepBytes; }

void gemm_f32_prepare(const GemmPrepareArgs& args) {
  prepare_words<Tile>(
      args, [](const float* x, int64_t n) { return _mm512_castps_si512(Simd::load_n(x, n)); });
}

void gemm_f32_pack_rows(DType dtype, const GemmPackArgs& args) {
  VisitWeightType(dtype, [&](auto type) { pack_rows<Weights<Simd, type()>>(args); });
}

void gemm_f32_pack_columns(DType dtype, const GemmPackArgs& args) {
  VisitWeightType(dtype, [&](auto type) { pack_columns<Weights<Simd, type()>>(args); });
}

void gemm_f32_multiply(const GemmProduct& product) { multiply_tiles<Tile>(product); }
int64_t gemm_f32_multiply_registers(int64_t n) { return multiply_registers<F32Op>(n); }

}  // namespace thermocline::avx512
