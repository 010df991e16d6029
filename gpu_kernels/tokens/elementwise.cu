#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/products/activate.h"
#include "gpu_kernels/tokens/elementwise.h"
#include "gpu_kernels/tokens/soft_cap.h"

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

__global__ void __launch_bounds__(kThreads)
    add_bias_kernel(float* __restrict__ x, const float* __restrict__ bias, int64_t n,
                    int64_t width) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += stride) {
    x[i] += bias[i % width];
  }
}

__global__ void __launch_bounds__(kThreads)
    scale_kernel(float* x, float scale, float soft_cap, int64_t n) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += stride) {
    x[i] = scale == 0 ? 0.0f : SoftCapped(scale * x[i], soft_cap);
  }
}

// x and out may be the same: no __restrict__.
__global__ void __launch_bounds__(kThreads)
    multiply_rows_kernel(const float* x, const float* __restrict__ by, int64_t n, int64_t width,
                         float* out) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += stride) {
    out[i] = x[i] * by[i % width];
  }
}

__global__ void __launch_bounds__(kThreads)
    activate_multiply_rows_kernel(const GpuActivation activation, float* __restrict__ x,
                                  const float* __restrict__ by, int64_t by_stride, int64_t n,
                                  int64_t width) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += stride) {
    x[i] = Activate(activation, x[i]) * by[i / width * by_stride + i % width];
  }
}

LaunchConfig Config(Stream& stream, int64_t n) {
  const int64_t n_blocks = (n + kThreads - 1) / kThreads;
  const auto grid = static_cast<unsigned>(n_blocks < kMaxBlocks ? n_blocks : kMaxBlocks);
  return {.grid = grid, .block = kThreads, .stream = stream};
}

}  // namespace

void GpuAdd(Stream& stream, float* y, const float* x, int64_t n) {
  if (n == 0) return;
  Launch(KERNEL(add_kernel), Config(stream, n), y, x, n);
}

void GpuAddBias(Stream& stream, float* x, const float* bias, int64_t n_rows, int64_t width) {
  const int64_t n = n_rows * width;
  if (n == 0) return;
  Launch(KERNEL(add_bias_kernel), Config(stream, n), x, bias, n, width);
}

void GpuScale(Stream& stream, float* x, float scale, float soft_cap, int64_t n) {
  if (n == 0) return;
  Launch(KERNEL(scale_kernel), Config(stream, n), x, scale, soft_cap, n);
}

void GpuMultiplyRows(Stream& stream, const float* x, const float* by, int64_t n_rows, int64_t width,
                     float* out) {
  const int64_t n = n_rows * width;
  if (n == 0) return;
  Launch(KERNEL(multiply_rows_kernel), Config(stream, n), x, by, n, width, out);
}

void GpuActivateMultiplyRows(Stream& stream, const GpuActivation& activation, float* x,
                             const float* by, int64_t by_stride, int64_t n_rows, int64_t width) {
  const int64_t n = n_rows * width;
  if (n == 0) return;
  Launch(KERNEL(activate_multiply_rows_kernel), Config(stream, n), activation, x, by, by_stride, n,
         width);
}

}  // namespace thermocline
