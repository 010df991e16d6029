#include "gpu_kernels/activations.h"
#include "gpu_kernels/launch.h"
#include "gpu_kernels/quantise.h"
#include "gpu_kernels/weight_layout.h"
#include "runtime/core/checked_math.h"
#include "runtime/core/dtype.h"

namespace thermocline {
namespace {

static_assert(kQuantBlock == kWarpThreads, "a warp quantises a block");

constexpr int kPrepareThreads = 256;
constexpr int kNormThreads = 512;  // as rms_norm_kernel, whose sums these equal
constexpr uint64_t kPlaneAlignment = 256;

// A warp per block of 32 elements; blockIdx.y is the token.
__global__ void __launch_bounds__(kPrepareThreads)
    prepare_kernel(const float* __restrict__ x, PrepareStep step, GpuVectors out) {
  const int64_t block = (int64_t{blockIdx.x} * kPrepareThreads + threadIdx.x) / kWarpThreads;
  if (block * kWarpThreads >= out.padded_cols) return;
  const int64_t col = block * kWarpThreads + threadIdx.x % kWarpThreads;
  const int64_t token = blockIdx.y;
  float value = col < out.cols ? x[token * out.cols + col] : 0.0f;
  // NaN stays NaN.
  if (step == PrepareStep::kRelu && value < 0) value = 0;
  StoreBlock(out, token, block, value);
}

// One block per token.
__global__ void __launch_bounds__(kNormThreads)
    rms_norm_prepare_kernel(const float* __restrict__ x, const float* __restrict__ weight,
                            float epsilon, GpuVectors out) {
  SHARED_ARRAY(float, partial, kWarpThreads);
  const int64_t token = blockIdx.x;
  const float* const row = x + token * out.cols;
  float sum = 0;
  for (int64_t i = threadIdx.x; i < out.cols; i += kNormThreads) sum = fmaf(row[i], row[i], sum);
  const float mean = BlockSum(sum, partial) / static_cast<float>(out.cols);
  const float scale = 1.0f / sqrtf(mean + epsilon);
  // padded_cols is a multiple of 32: all lanes of a warp go round equally often.
  for (int64_t i = threadIdx.x; i < out.padded_cols; i += kNormThreads) {
    const float value = i < out.cols ? row[i] * scale * weight[i] : 0.0f;
    StoreBlock(out, token, i / kWarpThreads, value);
  }
}

uint64_t PlaneBytes(uint64_t n_bytes) {
  return (n_bytes + kPlaneAlignment - 1) / kPlaneAlignment * kPlaneAlignment;
}

}  // namespace

uint64_t GpuVectorsBytes(int64_t cols, int64_t n_tokens) {
  const auto n = static_cast<uint64_t>(GpuPaddedCols(cols) * n_tokens);
  return PlaneBytes(n * sizeof(float)) + PlaneBytes(n) +
         PlaneBytes(n / kQuantBlock * sizeof(float));
}

GpuVectors MakeGpuVectors(void* memory, int64_t cols, int64_t n_tokens) {
  const int64_t padded = GpuPaddedCols(cols);
  const auto n = static_cast<uint64_t>(padded * n_tokens);
  auto* const values = static_cast<unsigned char*>(memory);
  auto* const quants = values + PlaneBytes(n * sizeof(float));
  auto* const scales = quants + PlaneBytes(n);
  return {cols, padded, reinterpret_cast<float*>(values), reinterpret_cast<int8_t*>(quants),
          reinterpret_cast<float*>(scales)};
}

void GpuPrepare(Stream& stream, const float* x, int64_t n_tokens, PrepareStep step,
                const GpuVectors& out) {
  if (n_tokens == 0 || out.cols == 0) return;
  const dim3 grid(static_cast<unsigned>(CeilDiv(out.padded_cols, kPrepareThreads)),
                  static_cast<unsigned>(n_tokens));
  Launch(KERNEL(prepare_kernel), {.grid = grid, .block = kPrepareThreads, .stream = stream}, x,
         step, out);
}

void GpuRmsNormPrepare(Stream& stream, const float* x, const float* weight, float epsilon,
                       int64_t n_tokens, const GpuVectors& out) {
  if (n_tokens == 0 || out.cols == 0) return;
  Launch(KERNEL(rms_norm_prepare_kernel),
         {.grid = static_cast<unsigned>(n_tokens), .block = kNormThreads, .stream = stream}, x,
         weight, epsilon, out);
}

}  // namespace thermocline
