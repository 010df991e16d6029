// Multiplies batches of tokens by weights in f32: every type that is not multiplied in int8, and
// sums over rows. A run's part of a panel holds, per column of k, 16 outputs; a tile of T tokens
// holds, per column, T values.
#include "cpu_kernels/avx2.h"
#include "cpu_kernels/convert_simd.h"
#include "cpu_kernels/gemm_tiles_avx2.h"

namespace thermocline::avx2 {
namespace {

// Two groups of 8 outputs by T tokens: 12 sums for T = 6.
struct F32Tile {
  using V = Simd;
  using Output = TileOutput;
  static constexpr int kTileTokens = 6;
  static constexpr int64_t kOutputs = 16;
  static constexpr int64_t kStep = 1;
  static constexpr int64_t kInputStepBytes = 4;
  static constexpr int64_t kPanelStepBytes = kOutputs * 4;

  template <int kTokens>
  static void run(const std::byte* panel, const std::byte* x, int64_t n, const TileOutput& out,
                  LinePrefetcher& ahead) {
    __m256 sums[kTokens][2];
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      sums[t][0] = out.first(t, 0);
      sums[t][1] = out.first(t, 1);
    }
    LinePrefetcher lines = ahead;
    const auto* w = reinterpret_cast<const float*>(panel);
    const auto* values = reinterpret_cast<const float*>(x);
    for (int64_t i = 0; i < n; ++i, w += kOutputs, values += kTokens) {
      if (i % 4 == 0) lines.step();
      const __m256 w0 = _mm256_load_ps(w);
      const __m256 w1 = _mm256_load_ps(w + 8);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        const __m256 value = _mm256_broadcast_ss(values + t);
        sums[t][0] = _mm256_fmadd_ps(w0, value, sums[t][0]);
        sums[t][1] = _mm256_fmadd_ps(w1, value, sums[t][1]);
      }
    }
    ahead = lines;
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      out.store(t, 0, sums[t][0]);
      out.store(t, 1, sums[t][1]);
    }
  }
};

struct F32Op {
  using Sum = __m256;
  static constexpr int kProducts = 8;
  [[gnu::always_inline]] static inline __m256 multiply_add(__m256 sum, __m256i w, __m256i x) {
    return _mm256_fmadd_ps(_mm256_castsi256_ps(w), _mm256_castsi256_ps(x), sum);
  }
};

template <class W>
constexpr int64_t kColumnsAtOnce = reads_octets<W>() ? kOctetCols : kQuantBlock;
constexpr int64_t kRowsAhead = 12;  // rows ahead in which a pack of columns prefetches

template <class W>
constexpr int64_t RowBytesAtOnce() {
  if constexpr (W::kBlocks) return kColumnsAtOnce<W> * W::kBytes / W::kElems;
  return kColumnsAtOnce<W> * W::kBytes;
}

// Packs columns [begin, end) of rows [0, n) of 8; the other rows become zeros.
template <class W>
void pack_group(const std::byte* w, int64_t stride, int64_t n, int64_t begin, int64_t end,
                LinePrefetcher& ahead, std::byte* out) {
  constexpr int64_t kLines = (8 * RowBytesAtOnce<W>() + 63) / 64;
  constexpr int64_t kAtOnce = kColumnsAtOnce<W>;
  for (int64_t col = begin; col < end; col += kAtOnce) {
    const int64_t columns = end - col < kAtOnce ? end - col : kAtOnce;
    for (int64_t line = 0; line < kLines; ++line) ahead.step();
    alignas(32) float rows[8][kAtOnce] = {};
    for (int64_t r = 0; r < n; ++r) {
      convert_row<Simd, W, ToF32<Simd>>(w + r * stride, col, col + columns, rows[r]);
    }
    for (int64_t c = 0; c < columns; c += 8) {
      __m256 v[8];
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) v[r] = _mm256_load_ps(rows[r] + c);
      transpose_8(v);
      for (int64_t i = 0; i < 8 && c + i < columns; ++i, out += F32Tile::kPanelStepBytes) {
        _mm256_store_ps(reinterpret_cast<float*>(out), v[i]);
      }
    }
  }
}

template <class W>
void pack_rows(const GemmPackArgs& args) {
  std::byte* panel = args.panels;
  LinePrefetcher ahead(args.ahead);
  for (int64_t r = 0; r < args.n_rows; r += F32Tile::kOutputs) {
    for (int64_t group = 0; group < 2; ++group) {
      const int64_t left = args.n_rows - r - group * 8;
      const int64_t n = left < 0 ? 0 : left < 8 ? left : 8;
      const std::byte* rows = n > 0 ? args.w + (r + group * 8) * args.row_stride_bytes : args.w;
      pack_group<W>(rows, args.row_stride_bytes, n, args.begin, args.end, ahead,
                    panel + group * 32);
    }
    panel += (args.end - args.begin) * F32Tile::kPanelStepBytes;
  }
}

template <class W>
void pack_columns(const GemmPackArgs& args) {
  const int64_t first_byte = column_offset<W>(args.begin);
  const int64_t end_byte = column_offset<W>(args.end - 1) + W::kBytes;
  const int64_t run_bytes = args.n_rows * F32Tile::kPanelStepBytes;
  for (int64_t i = 0; i < args.n_rows; ++i) {
    const std::byte* row = args.w + i * args.row_stride_bytes;
    const std::byte* next = row + kRowsAhead * args.row_stride_bytes;
    for (int64_t at = first_byte; at < end_byte + 63; at += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(next + at), _MM_HINT_T0);
    }
    constexpr int64_t kAtOnce = kColumnsAtOnce<W>;
    static_assert(kAtOnce % kGemmPanel == 0);
    for (int64_t col = args.begin; col < args.end; col += kAtOnce) {
      const int64_t columns = args.end - col < kAtOnce ? args.end - col : kAtOnce;
      alignas(32) float values[kAtOnce] = {};
      convert_row<Simd, W, ToF32<Simd>>(row, col, col + columns, values);
      for (int64_t c = 0; c < columns; c += kGemmPanel) {
        std::byte* out = args.panels + (col - args.begin + c) / F32Tile::kOutputs * run_bytes +
                         i * F32Tile::kPanelStepBytes;
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
          _mm256_store_ps(reinterpret_cast<float*>(out + v / 2 * run_bytes) + v % 2 * 8,
                          _mm256_load_ps(values + c + v * 8));
        }
      }
    }
  }
}

}  // namespace

int64_t gemm_f32_tile_tokens() { return F32Tile::kTileTokens; }
int64_t gemm_f32_input_bytes(int64_t n_tokens, int64_t k) { return n_tokens * k * 4; }
int64_t gemm_f32_panel_bytes(int64_t k) {
  return k * F32Tile::kPanelStepBytes * (kGemmPanel / F32Tile::kOutputs);
}

void gemm_f32_prepare(const GemmPrepareArgs& args) {
  const Tiles tiles(args.n_tokens, F32Tile::kTileTokens);
  for (int64_t tile = args.tile_begin; tile < args.tile_end; ++tile) {
    const int64_t begin = tiles.begin(tile);
    const int64_t size = tiles.size(tile);
    auto* out = reinterpret_cast<float*>(args.out) + begin * args.k;
    for (int64_t t = 0; t < size; ++t) {
      const float* x = args.x + (begin + t) * args.k;
      for (int64_t i = 0; i < args.k; ++i) out[i * size + t] = x[i];
    }
  }
}

void gemm_f32_pack_rows(DType dtype, const GemmPackArgs& args) {
  VisitWeightType(dtype, [&](auto type) { pack_rows<Weights<Simd, type()>>(args); });
}

void gemm_f32_pack_columns(DType dtype, const GemmPackArgs& args) {
  VisitWeightType(dtype, [&](auto type) { pack_columns<Weights<Simd, type()>>(args); });
}

void gemm_f32_multiply(const GemmProduct& product) { multiply_tiles<F32Tile>(product); }
int64_t gemm_f32_multiply_registers(int64_t n) { return multiply_registers<F32Op>(n); }

}  // namespace thermocline::avx2
