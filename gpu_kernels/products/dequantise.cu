#include <algorithm>

#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/products/dequantise.h"
#include "gpu_kernels/products/dispatch.h"
#include "gpu_kernels/products/weight_words.h"
#include "runtime/core/checked_math.h"

namespace thermocline {
namespace {

constexpr int kThreads = 128;
constexpr int64_t kMaxGridRows = 65535;

__device__ inline unsigned F16Pair(float low, float high) {
  const unsigned low_bits = __half_as_ushort(__float2half_rn(low));
  const unsigned high_bits = __half_as_ushort(__float2half_rn(high));
  return high_bits << 16 | low_bits;
}

template <DType kType>
__device__ inline void StoreValues(const WeightWords<kType>& w, float* out) {
#pragma unroll
  for (int i = 0; i < LaneElements(kType); i += 4) {
    *reinterpret_cast<float4*>(out + i) =
        make_float4(WeightOf(w, i), WeightOf(w, i + 1), WeightOf(w, i + 2), WeightOf(w, i + 3));
  }
}

template <DType kType>
__device__ inline void StoreValues(const WeightWords<kType>& w, uint16_t* out) {
#pragma unroll
  for (int i = 0; i < LaneElements(kType); i += 4) {
    *reinterpret_cast<uint2*>(out + i) =
        make_uint2(F16Pair(WeightOf(w, i), WeightOf(w, i + 1)),
                   F16Pair(WeightOf(w, i + 2), WeightOf(w, i + 3)));
  }
}

// A thread per LaneElements weights; blockIdx.y counts rows.
template <DType kType, typename Out>
__global__ void __launch_bounds__(kThreads)
    dequantise_kernel(const std::byte* __restrict__ rows, int64_t row_bytes, int64_t padded_cols,
                      int64_t n_rows, Out* __restrict__ out) {
  constexpr int kElements = LaneElements(kType);
  const int64_t step = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (step * kElements >= padded_cols) return;
  for (int64_t r = blockIdx.y; r < n_rows; r += gridDim.y) {
    WeightWords<kType> w;
    w.Load(rows + r * row_bytes, padded_cols, step);
    StoreValues(w, out + r * padded_cols + step * kElements);
  }
}

template <typename Out>
void Dequantise(Stream& stream, const GpuMatrix& w, int64_t first_row, int64_t n_rows, Out* out) {
  if (n_rows == 0 || w.cols == 0) return;
  const int64_t padded_cols = GpuPaddedCols(w.cols);
  VisitGpuType(w.dtype, [&](auto type) {
    const int64_t n_steps = padded_cols / LaneElements(type());
    const dim3 grid(static_cast<unsigned>(CeilDiv(n_steps, kThreads)),
                    static_cast<unsigned>(std::min(n_rows, kMaxGridRows)));
    Launch(KERNEL(dequantise_kernel<type(), Out>),
           {.grid = grid, .block = kThreads, .stream = stream}, w.data + first_row * w.row_bytes,
           w.row_bytes, padded_cols, n_rows, out);
  });
}

}  // namespace

void GpuDequantise(Stream& stream, const GpuMatrix& w, int64_t first_row, int64_t n_rows,
                   float* out) {
  Dequantise(stream, w, first_row, n_rows, out);
}

void GpuDequantise(Stream& stream, const GpuMatrix& w, int64_t first_row, int64_t n_rows,
                   uint16_t* out) {
  Dequantise(stream, w, first_row, n_rows, out);
}

}  // namespace thermocline
