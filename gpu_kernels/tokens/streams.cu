#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/products/norm_row.h"
#include "gpu_kernels/tokens/streams.h"
#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kThreads = 128;
constexpr int kMost = static_cast<int>(kMaxGpuStreams);

// c[i] of the block's row. A thread each computes some; all see them behind the barrier.
__device__ void MixRow(const GpuStreams& op, int n_c, const SharedSpan<float>& c) {
  const float* const route = op.route + int64_t{blockIdx.y} * op.n_streams;
  for (int i = static_cast<int>(threadIdx.x); i < n_c; i += kThreads) {
    float sum = 0;
    for (int64_t j = 0; j < op.n_streams; ++j) {
      sum = fmaf(op.coef[i * op.n_streams + j], route[j], sum);
    }
    c[i] = sum;
  }
  __syncthreads();
}

// Grid: columns, rows. A thread has one column of all streams.
__global__ void __launch_bounds__(kThreads) predict_streams_kernel(const GpuStreams op, float* x) {
  SHARED_ARRAY(float, c, kMost* kMost);
  const int n = static_cast<int>(op.n_streams);
  MixRow(op, n * n, c);
  const int64_t column = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (column >= op.width) return;
  const int64_t at = int64_t{blockIdx.y} * op.width + column;
  const int64_t apart = op.n_rows * op.width;
  float old[kMost] = {};
#pragma unroll
  for (int j = 0; j < kMost; ++j) {
    if (j < n) old[j] = op.streams[j * apart + at];
  }
  for (int i = 0; i < n; ++i) {
    float sum = op.streams[i * apart + at];
#pragma unroll
    for (int j = 0; j < kMost; ++j) {
      if (j < n) sum = fmaf(c[i * n + j], old[j], sum);
    }
    op.streams[i * apart + at] = sum;
    if (i == op.active) x[at] = sum;
  }
}

// The same grid.
__global__ void __launch_bounds__(kThreads)
    correct_streams_kernel(const GpuStreams op, const float* __restrict__ x) {
  SHARED_ARRAY(float, c, kMost);
  const int n = static_cast<int>(op.n_streams);
  MixRow(op, n, c);
  const int64_t column = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (column >= op.width) return;
  const int64_t at = int64_t{blockIdx.y} * op.width + column;
  const int64_t apart = op.n_rows * op.width;
  const float change = x[at] - op.streams[op.active * apart + at];
  for (int i = 0; i < n; ++i) {
    float& element = op.streams[i * apart + at];
    element = fmaf(1.0f + c[i], change, element);
  }
}

// A block per row.
__global__ void __launch_bounds__(kNormThreads)
    match_rms_kernel(const float* __restrict__ like, float least_mean_square, int64_t width,
                     float* __restrict__ x) {
  SHARED_ARRAY(float, wanted_partial, kWarpThreads);
  SHARED_ARRAY(float, own_partial, kWarpThreads);
  const int64_t at = blockIdx.x * width;
  const auto n = static_cast<float>(width);
  const float wanted = BlockSum(SumSquares(like + at, width), wanted_partial) / n;
  const float own = BlockSum(SumSquares(x + at, width), own_partial) / n;
  const float factor = sqrtf(wanted / fmaxf(own, least_mean_square));
  for (int64_t i = threadIdx.x; i < width; i += kNormThreads) x[at + i] *= factor;
}

LaunchConfig ColumnsOf(Stream& stream, const GpuStreams& streams) {
  CHECK(streams.n_streams >= 1 && streams.n_streams <= kMaxGpuStreams);
  const dim3 grid(static_cast<unsigned>(CeilDiv(streams.width, int64_t{kThreads})),
                  static_cast<unsigned>(streams.n_rows));
  return {.grid = grid, .block = kThreads, .stream = stream};
}

}  // namespace

void GpuPredictStreams(Stream& stream, const GpuStreams& streams, float* x) {
  if (streams.n_rows == 0 || streams.width == 0) return;
  Launch(KERNEL(predict_streams_kernel), ColumnsOf(stream, streams), streams, x);
}

void GpuCorrectStreams(Stream& stream, const GpuStreams& streams, const float* x) {
  if (streams.n_rows == 0 || streams.width == 0) return;
  Launch(KERNEL(correct_streams_kernel), ColumnsOf(stream, streams), streams, x);
}

void GpuMatchRms(Stream& stream, const float* like, float least_mean_square, int64_t n_rows,
                 int64_t width, float* x) {
  if (n_rows == 0 || width == 0) return;
  Launch(KERNEL(match_rms_kernel),
         {.grid = static_cast<unsigned>(n_rows), .block = kNormThreads, .stream = stream}, like,
         least_mean_square, width, x);
}

}  // namespace thermocline
