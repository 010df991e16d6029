#include <algorithm>

#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/base/plane_bytes.h"
#include "gpu_kernels/products/batch_gemm.h"
#include "gpu_kernels/products/dequantise.h"
#include "gpu_kernels/products/quantise.h"
#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1024;

// Returns the exponent of the power of two that an f16 batch is divided by: magnitudes end up below
// 2^15.
__device__ inline int Exponent(unsigned largest_bits) {
  constexpr int kBias = 127;
  constexpr int kMaxExponent = 14;
  const int exponent = static_cast<int>(largest_bits >> 23) - kBias;
  return exponent > kMaxExponent ? exponent - kMaxExponent : 0;
}
__device__ inline float PowerOfTwo(int exponent) {
  return __uint_as_float(static_cast<unsigned>(exponent + 127) << 23);
}

__global__ void __launch_bounds__(kThreads)
    largest_kernel(const float* __restrict__ x, int64_t n, uint32_t* largest) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  unsigned bits = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += stride) {
    bits = max(bits, __float_as_uint(x[i]) & 0x7fffffffu);
  }
  bits = __float_as_uint(WarpMaxMagnitude(__uint_as_float(bits)));
  if (threadIdx.x % kWarpThreads == 0) atomicMax(largest, bits);
}

// blockIdx.y is the token.
__global__ void __launch_bounds__(kThreads)
    batch_kernel(const float* __restrict__ x, const GpuBatch out) {
  const int64_t col = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (col >= out.padded_cols) return;
  const int64_t token = blockIdx.y;
  const float value = col < out.cols ? x[token * out.cols + col] : 0.0f;
  const int64_t at = token * out.padded_cols + col;
  const float inverse = PowerOfTwo(-Exponent(*out.largest));
  out.values[at] = value;
  out.halves[at] = __half_as_ushort(__float2half_rn(value * inverse));
}

// y = y * the batch's power of two + bias.
__global__ void __launch_bounds__(kThreads)
    finish_kernel(float* __restrict__ y, const float* __restrict__ bias,
                  const uint32_t* __restrict__ largest, int64_t n_outputs) {
  const int exponent = largest == nullptr ? 0 : Exponent(*largest);
  if (exponent == 0 && bias == nullptr) return;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n_outputs) return;
  const int64_t at = blockIdx.y * n_outputs + i;
  y[at] = fmaf(y[at], PowerOfTwo(exponent), bias == nullptr ? 0.0f : bias[i]);
}

void Finish(Stream& stream, float* y, const float* bias, const uint32_t* largest, int64_t n_tokens,
            int64_t n_outputs) {
  if (bias == nullptr && largest == nullptr) return;
  const dim3 grid(static_cast<unsigned>(CeilDiv(n_outputs, kThreads)),
                  static_cast<unsigned>(n_tokens));
  Launch(KERNEL(finish_kernel), {.grid = grid, .block = kThreads, .stream = stream}, y, bias,
         largest, n_outputs);
}

// Rows in the type that they are multiplied in, and how they lie.
struct PanelRows {
  GemmType type;
  const void* data;
  int64_t stride;
};

// Calls call(first row, number of rows, PanelRows) for all of w: at once where nothing has to be
// converted, else as many rows at a time as the panel holds.
template <typename Call>
void ForPanels(Stream& stream, const GpuMatrix& w, const GpuPanel& panel, const Call& call) {
  if (w.dtype == DType::kF32 || w.dtype == DType::kF16) {
    const auto element = static_cast<int64_t>(GetDTypeInfo(w.dtype).block_bytes);
    const GemmType type = w.dtype == DType::kF32 ? GemmType::kF32 : GemmType::kF16;
    call(0, w.rows, PanelRows{type, w.data, w.row_bytes / element});
    return;
  }
  const auto panel_rows = static_cast<int64_t>(panel.n_bytes / GpuPanelBytes(w.cols));
  CHECK(panel_rows > 0);
  auto* const halves = static_cast<uint16_t*>(panel.data);
  for (int64_t first = 0; first < w.rows; first += panel_rows) {
    const int64_t n = std::min(panel_rows, w.rows - first);
    GpuDequantise(stream, w, first, n, halves);
    call(first, n, PanelRows{GemmType::kF16, halves, GpuPaddedCols(w.cols)});
  }
}

// Returns the batch in a type, from column `col` on.
const void* VectorsOf(const GpuBatch& x, GemmType type, int64_t col) {
  if (type == GemmType::kF32) return x.values + col;
  return x.halves + col;
}

const uint32_t* LargestFor(const GpuMatrix& w, const GpuBatch& x) {
  return w.dtype == DType::kF32 ? nullptr : x.largest;
}

}  // namespace

uint64_t GpuBatchBytes(int64_t cols, int64_t n_tokens) {
  const auto n = static_cast<uint64_t>(GpuPaddedCols(cols) * n_tokens);
  return PlaneBytes(n * sizeof(float)) + PlaneBytes(n * sizeof(uint16_t)) +
         PlaneBytes(sizeof(uint32_t));
}

GpuBatch MakeGpuBatch(void* memory, int64_t cols, int64_t n_tokens) {
  const int64_t padded = GpuPaddedCols(cols);
  const auto n = static_cast<uint64_t>(padded * n_tokens);
  auto* const values = static_cast<unsigned char*>(memory);
  auto* const halves = values + PlaneBytes(n * sizeof(float));
  auto* const largest = halves + PlaneBytes(n * sizeof(uint16_t));
  return {cols, padded, reinterpret_cast<float*>(values), reinterpret_cast<uint16_t*>(halves),
          reinterpret_cast<uint32_t*>(largest)};
}

void GpuPrepareBatch(Stream& stream, const float* x, int64_t n_tokens, const GpuBatch& out) {
  const int64_t n = n_tokens * out.cols;
  if (n == 0) return;
  stream.Fill(out.largest, 0, sizeof(*out.largest));
  const auto n_blocks = static_cast<unsigned>(std::min(CeilDiv(n, kThreads), kMaxBlocks));
  Launch(KERNEL(largest_kernel), {.grid = n_blocks, .block = kThreads, .stream = stream}, x, n,
         out.largest);
  const dim3 grid(static_cast<unsigned>(CeilDiv(out.padded_cols, kThreads)),
                  static_cast<unsigned>(n_tokens));
  Launch(KERNEL(batch_kernel), {.grid = grid, .block = kThreads, .stream = stream}, x, out);
}

uint64_t GpuPanelBytes(int64_t cols) {
  return static_cast<uint64_t>(GpuPaddedCols(cols)) * sizeof(uint16_t);
}

void GpuBatchRows(Stream& stream, GpuGemm& gemm, const GpuMatrix& w, const float* bias,
                  const GpuBatch& x, int64_t n_tokens, const GpuPanel& panel, float* y) {
  CHECK(w.cols == x.cols);
  if (w.rows == 0 || n_tokens == 0) return;
  ForPanels(stream, w, panel, [&](int64_t first, int64_t n_rows, const PanelRows& rows) {
    gemm.Multiply(stream, {.type = rows.type,
                           .weights = GpuGemmProduct::Weights::kRowPerOutput,
                           .w = rows.data,
                           .w_stride = rows.stride,
                           .x = VectorsOf(x, rows.type, 0),
                           .x_stride = x.padded_cols,
                           .y = y + first,
                           .y_stride = w.rows,
                           .n_tokens = n_tokens,
                           .n_outputs = n_rows,
                           .n_inputs = x.padded_cols});
  });
  Finish(stream, y, bias, LargestFor(w, x), n_tokens, w.rows);
}

void GpuBatchColumns(Stream& stream, GpuGemm& gemm, const GpuMatrix& w, const GpuBatch& x,
                     int64_t n_tokens, const GpuPanel& panel, float* y) {
  CHECK(w.rows == x.cols);
  if (w.cols == 0 || n_tokens == 0) return;
  if (w.rows == 0) {
    return stream.Fill(y, 0, static_cast<uint64_t>(n_tokens * w.cols) * sizeof(float));
  }
  ForPanels(stream, w, panel, [&](int64_t first, int64_t n_rows, const PanelRows& rows) {
    gemm.Multiply(stream,
                  {.type = rows.type,
                   .weights = GpuGemmProduct::Weights::kRowPerInput,
                   .w = rows.data,
                   .w_stride = rows.stride,
                   .x = VectorsOf(x, rows.type, first),
                   .x_stride = x.padded_cols,
                   .y = y,
                   .y_stride = w.cols,
                   .n_tokens = n_tokens,
                   .n_outputs = w.cols,
                   .n_inputs = n_rows},
                  first == 0 ? GpuGemm::Result::kReplace : GpuGemm::Result::kAdd);
  });
  Finish(stream, y, nullptr, LargestFor(w, x), n_tokens, w.cols);
}

}  // namespace thermocline
