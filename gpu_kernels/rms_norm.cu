#include "gpu_kernels/launch.h"
#include "gpu_kernels/rms_norm.h"
#include "gpu_kernels/warp_reduce.h"

namespace thermocline {
namespace {

constexpr int kThreads = 512;

// One block per token. x and y may be the same: no __restrict__.
__global__ void __launch_bounds__(kThreads)
    rms_norm_kernel(float* y, const float* x, const float* weight, float epsilon, int64_t width) {
  SHARED_ARRAY(float, partial, kWarpThreads);
  const float* const row = x + blockIdx.x * width;
  float* const out = y + blockIdx.x * width;
  float sum = 0;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) sum = fmaf(row[i], row[i], sum);
  const float mean = BlockSum(sum, partial) / static_cast<float>(width);
  const float scale = 1.0f / sqrtf(mean + epsilon);
  for (int64_t i = threadIdx.x; i < width; i += kThreads) out[i] = row[i] * scale * weight[i];
}

}  // namespace

void GpuRmsNorm(Stream& stream, float* y, const float* x, const float* weight, float epsilon,
                int64_t n_tokens, int64_t width) {
  if (n_tokens == 0 || width == 0) return;
  Launch(KERNEL(rms_norm_kernel),
         {.grid = static_cast<unsigned>(n_tokens), .block = kThreads, .stream = stream}, y, x,
         weight, epsilon, width);
}

}  // namespace thermocline
