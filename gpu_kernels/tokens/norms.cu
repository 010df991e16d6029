#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/products/norm_row.h"
#include "gpu_kernels/tokens/norms.h"
#include "runtime/core/checked_math.h"

namespace thermocline {
namespace {

// One block per row. x and y may be the same: no __restrict__.
__global__ void __launch_bounds__(kNormThreads)
    norm_rows_kernel(float* y, const float* x, const GpuNorm norm, int64_t width) {
  const int64_t at = blockIdx.x * width;
  const float squares = norm.kind == GpuNormKind::kRms ? SumSquares(x + at, width) : 0.0f;
  const RowNorm row = NormOfRow(norm, x + at, squares, width);
  for (int64_t i = threadIdx.x; i < width; i += kNormThreads) y[at + i] = row.Of(x[at + i], i);
}

// A thread reads of x only what it wrote itself.
__global__ void __launch_bounds__(kNormThreads)
    add_norm_rows_kernel(float* x, const float* y, const GpuNorm norm, int64_t width, float* out) {
  const int64_t at = blockIdx.x * width;
  const float squares = AddToRow(x + at, y + at, nullptr, width);
  const RowNorm row = NormOfRow(norm, x + at, squares, width);
  for (int64_t i = threadIdx.x; i < width; i += kNormThreads) out[at + i] = row.Of(x[at + i], i);
}

constexpr int kPartWarps = 4;

struct Parts {
  int64_t n;       // of all rows
  int64_t in_row;  // of one
  int64_t width;
  bool own_weights;
};

// A warp per part, which is as wide as a head.
__global__ void __launch_bounds__(kPartWarps* kWarpThreads)
    norm_parts_kernel(float* y, const float* x, const GpuNorm norm, const Parts parts) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int64_t part = int64_t{blockIdx.x} * kPartWarps + threadIdx.x / kWarpThreads;
  if (part >= parts.n) return;
  const float* const from = x + part * parts.width;
  float* const to = y + part * parts.width;
  const auto n = static_cast<float>(parts.width);
  const int64_t own = parts.own_weights ? part % parts.in_row * parts.width : 0;
  RowNorm row{norm.weight == nullptr ? nullptr : norm.weight + own,
              norm.bias == nullptr ? nullptr : norm.bias + own, 0.0f, 1.0f};
  if (norm.kind == GpuNormKind::kLayer) {
    float sum = 0;
    for (int64_t i = lane; i < parts.width; i += kWarpThreads) sum += from[i];
    row.mean = WarpSum(sum) / n;
  }
  float squares = 0;
  for (int64_t i = lane; i < parts.width; i += kWarpThreads) {
    const float off = from[i] - row.mean;
    squares = fmaf(off, off, squares);
  }
  row.scale = 1.0f / sqrtf(WarpSum(squares) / n + norm.epsilon);
  for (int64_t i = lane; i < parts.width; i += kWarpThreads) to[i] = row.Of(from[i], i);
}

}  // namespace

void GpuNormRows(Stream& stream, const GpuNorm& norm, const float* x, int64_t n_rows, int64_t width,
                 float* y) {
  if (n_rows == 0 || width == 0) return;
  Launch(KERNEL(norm_rows_kernel),
         {.grid = static_cast<unsigned>(n_rows), .block = kNormThreads, .stream = stream}, y, x,
         norm, width);
}

void GpuAddNormRows(Stream& stream, const GpuNorm& norm, float* x, const float* y, int64_t n_rows,
                    int64_t width, float* out) {
  if (n_rows == 0 || width == 0) return;
  Launch(KERNEL(add_norm_rows_kernel),
         {.grid = static_cast<unsigned>(n_rows), .block = kNormThreads, .stream = stream}, x, y,
         norm, width, out);
}

void GpuNormParts(Stream& stream, const GpuNorm& norm, bool own_weights, const float* x,
                  int64_t n_rows, int64_t n_parts, int64_t width, float* y) {
  const Parts parts{n_rows * n_parts, n_parts, width, own_weights};
  if (parts.n == 0 || width == 0) return;
  Launch(KERNEL(norm_parts_kernel),
         {.grid = static_cast<unsigned>(CeilDiv(parts.n, int64_t{kPartWarps})),
          .block = kPartWarps * kWarpThreads,
          .stream = stream},
         y, x, norm, parts);
}

}  // namespace thermocline
