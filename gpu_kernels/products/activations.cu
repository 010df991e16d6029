#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/base/plane_bytes.h"
#include "gpu_kernels/products/activations.h"
#include "gpu_kernels/products/norm_row.h"
#include "gpu_kernels/products/quantise.h"
#include "gpu_kernels/products/weight_layout.h"
#include "runtime/core/checked_math.h"
#include "runtime/core/dtype.h"

namespace thermocline {
namespace {

static_assert(kQuantBlock == kWarpThreads, "a warp quantises a block");

constexpr int kPrepareThreads = 256;

// A warp per block of 32 elements; blockIdx.y is the token.
__global__ void __launch_bounds__(kPrepareThreads)
    prepare_kernel(const float* __restrict__ x, PrepareOp op, GpuVectors out) {
  const int64_t block = (int64_t{blockIdx.x} * kPrepareThreads + threadIdx.x) / kWarpThreads;
  if (block * kWarpThreads >= out.padded_cols) return;
  const int64_t col = block * kWarpThreads + threadIdx.x % kWarpThreads;
  const int64_t token = blockIdx.y;
  float value = col < out.cols ? x[token * out.cols + col] : 0.0f;
  // NaN stays NaN.
  if (op == PrepareOp::kRelu && value < 0) value = 0;
  StoreBlock(out, token, block, value);
}

// Norms a row, and stores it as f32 and in the form of products.
__device__ void NormAndStore(const GpuNormOp& op, const float* row, float sum_squares,
                             const GpuVectors& out) {
  const int64_t token = blockIdx.x;
  const RowNorm norm = NormOfRow(op.norm, row, sum_squares, out.cols);
  // padded_cols is a multiple of 32: all lanes of a warp go round equally often.
  for (int64_t i = threadIdx.x; i < out.padded_cols; i += kNormThreads) {
    const float value = i < out.cols ? norm.Of(row[i], i) : 0.0f;
    if (i < out.cols) op.normed[token * out.cols + i] = value;
    StoreBlock(out, token, i / kWarpThreads, value);
  }
}

// One block takes one token. A thread reads of x only what it wrote itself.
__global__ void __launch_bounds__(kNormThreads)
    norm_prepare_kernel(const float* x, const GpuNormOp op, const GpuVectors out) {
  const float* const row = x + blockIdx.x * out.cols;
  const bool rms = op.norm.kind == GpuNormKind::kRms;
  NormAndStore(op, row, rms ? SumSquares(row, out.cols) : 0.0f, out);
}
__global__ void __launch_bounds__(kNormThreads)
    add_norm_prepare_kernel(float* x, const float* y, const GpuNormOp op, const GpuVectors out) {
  const int64_t at = blockIdx.x * out.cols;
  NormAndStore(op, x + at, AddToRow(x + at, y + at, nullptr, out.cols), out);
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

void GpuPrepare(Stream& stream, const float* x, int64_t n_tokens, PrepareOp op,
                const GpuVectors& out) {
  if (n_tokens == 0 || out.cols == 0) return;
  const dim3 grid(static_cast<unsigned>(CeilDiv(out.padded_cols, kPrepareThreads)),
                  static_cast<unsigned>(n_tokens));
  Launch(KERNEL(prepare_kernel), {.grid = grid, .block = kPrepareThreads, .stream = stream}, x, op,
         out);
}

void GpuNormPrepare(Stream& stream, const float* x, const GpuNormOp& op, int64_t n_tokens,
                    const GpuVectors& out) {
  if (n_tokens == 0 || out.cols == 0) return;
  Launch(KERNEL(norm_prepare_kernel),
         {.grid = static_cast<unsigned>(n_tokens), .block = kNormThreads, .stream = stream}, x, op,
         out);
}

void GpuAddNormPrepare(Stream& stream, float* x, const float* y, const GpuNormOp& op,
                       int64_t n_tokens, const GpuVectors& out) {
  if (n_tokens == 0 || out.cols == 0) return;
  Launch(KERNEL(add_norm_prepare_kernel),
         {.grid = static_cast<unsigned>(n_tokens), .block = kNormThreads, .stream = stream}, x, y,
         op, out);
}

}  // namespace thermocline
