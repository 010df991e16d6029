#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/products/dispatch.h"
#include "gpu_kernels/products/weight_words.h"
#include "gpu_kernels/tokens/embedding.h"
#include "runtime/core/checked_math.h"

namespace thermocline {
namespace {

constexpr int kThreads = 64;

// Which row of the table a token takes, and what becomes of it.
struct RowChoice {
  bool by_position = false;  // else by id
  int64_t offset = 0;        // to the position
  bool adds = false;         // to x, times the scale; else x becomes the row as it is
  float scale = 1;
};

// A row of blocks per token, a thread per LaneElements weights.
template <DType kType>
__global__ void __launch_bounds__(kThreads)
    embed_kernel(const GpuMatrix table, int64_t padded_cols, const GpuPass pass,
                 const RowChoice choice, float* __restrict__ x) {
  constexpr int kElements = LaneElements(kType);
  const int64_t token = blockIdx.y;
  const int64_t step = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t first = step * kElements;
  if (token >= pass.n_rows || first >= table.cols) return;
  const int64_t row =
      choice.by_position ? pass.rows[token].position + choice.offset : pass.rows[token].id;
  WeightWords<kType> w;
  w.Load(table.data + row * table.row_bytes, padded_cols, step);
  float* const out = x + token * table.cols + first;
#pragma unroll
  for (int i = 0; i < kElements; ++i) {
    if (first + i >= table.cols) continue;
    const float weight = WeightOf<kType>(w, i);
    out[i] = choice.adds ? fmaf(choice.scale, weight, out[i]) : weight;
  }
}

void LaunchEmbed(Stream& stream, const GpuMatrix& table, const GpuPass& pass,
                 const RowChoice& choice, float* x) {
  if (pass.n_rows == 0 || table.cols == 0) return;
  const int64_t padded_cols = GpuPaddedCols(table.cols);
  VisitGpuType(table.dtype, [&](auto type) {
    const int64_t n_steps = padded_cols / LaneElements(type());
    const dim3 grid(static_cast<unsigned>(CeilDiv(n_steps, kThreads)),
                    static_cast<unsigned>(pass.n_rows));
    Launch(KERNEL(embed_kernel<type()>), {.grid = grid, .block = kThreads, .stream = stream}, table,
           padded_cols, pass, choice, x);
  });
}

}  // namespace

void GpuEmbed(Stream& stream, const GpuMatrix& table, const GpuPass& pass, float* x) {
  LaunchEmbed(stream, table, pass, {}, x);
}

void GpuAddPositions(Stream& stream, const GpuMatrix& table, const GpuPass& pass, int64_t offset,
                     float* x) {
  LaunchEmbed(stream, table, pass, {.by_position = true, .offset = offset, .adds = true}, x);
}

void GpuAddTableRows(Stream& stream, const GpuMatrix& table, const GpuPass& pass, float scale,
                     float* x) {
  LaunchEmbed(stream, table, pass, {.adds = true, .scale = scale}, x);
}

}  // namespace thermocline
