#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/products/norm_row.h"
#include "gpu_kernels/tokens/rms_norm.h"

namespace thermocline {
namespace {

// One block per token. x and y may be the same: no __restrict__.
__global__ void __launch_bounds__(kNormThreads)
    rms_norm_kernel(float* y, const float* x, const float* weight, float epsilon, int64_t width) {
  SHARED_ARRAY(float, partial, kWarpThreads);
  const float* const row = x + blockIdx.x * width;
  NormRow(y + blockIdx.x * width, row, weight, epsilon, width, SumSquares(row, width), partial);
}

__global__ void __launch_bounds__(kNormThreads)
    add_rms_norm_kernel(float* x, const float* y, const float* weight, float epsilon, int64_t width,
                        float* out) {
  SHARED_ARRAY(float, partial, kWarpThreads);
  const int64_t at = blockIdx.x * width;
  const float sum_squares = AddToRow(x + at, y + at, nullptr, width);
  NormRow(out + at, x + at, weight, epsilon, width, sum_squares, partial);
}

}  // namespace

void GpuRmsNorm(Stream& stream, float* y, const float* x, const float* weight, float epsilon,
                int64_t n_tokens, int64_t width) {
  if (n_tokens == 0 || width == 0) return;
  Launch(KERNEL(rms_norm_kernel),
         {.grid = static_cast<unsigned>(n_tokens), .block = kNormThreads, .stream = stream}, y, x,
         weight, epsilon, width);
}

void GpuAddRmsNorm(Stream& stream, float* x, const float* y, const float* weight, float epsilon,
                   int64_t n_tokens, int64_t width, float* out) {
  if (n_tokens == 0 || width == 0) return;
  Launch(KERNEL(add_rms_norm_kernel),
         {.grid = static_cast<unsigned>(n_tokens), .block = kNormThreads, .stream = stream}, x, y,
         weight, epsilon, width, out);
}

}  // namespace thermocline
