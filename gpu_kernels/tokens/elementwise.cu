#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/tokens/elementwise.h"

namespace thermocline {
namespace {

constexpr int kThreads = 256;
// A grid-stride loop keeps the grid bounded whatever n is.
constexpr int64_t kMaxBlocks = 1024;

__global__ void __launch_bounds__(kThreads)
    add_kernel(float* __restrict__ y, const float* __restrict__ x, int64_t n) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += stride) y[i] += x[i];
}

}  // namespace

void GpuAdd(Stream& stream, float* y, const float* x, int64_t n) {
  if (n == 0) return;
  const int64_t n_blocks = (n + kThreads - 1) / kThreads;
  const auto grid = static_cast<unsigned>(n_blocks < kMaxBlocks ? n_blocks : kMaxBlocks);
  Launch(KERNEL(add_kernel), {.grid = grid, .block = kThreads, .stream = stream}, y, x, n);
}

}  // namespace thermocline
