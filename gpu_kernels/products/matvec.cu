#include <algorithm>

#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/products/dispatch.h"
#include "gpu_kernels/products/matvec.h"
#include "gpu_kernels/products/row_dot.h"
#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kWarps = 8;  // of a block
constexpr int kThreads = kWarps * kWarpThreads;
constexpr int kRows = 2;            // that a warp multiplies at once
constexpr int kMaxMatrices = 4;     // of a launch
constexpr int64_t kFullGpu = 4096;  // warps that keep a large GPU's memory busy

struct MatvecMatrix {
  const std::byte* w;
  int64_t row_bytes;
  int64_t rows;
  const float* bias;
  float* y;
  int log_warps;         // 2^log_warps warps share a group of kRows rows
  unsigned first_block;  // of the grid
};

struct MatvecMatrices {
  MatvecMatrix matrix[kMaxMatrices];
  int n;
};

// A group of n_warps warps takes kRows rows; each warp takes a part of their columns, and the parts
// are added in their order.
template <DType kType, int kTokens>
__global__ void __launch_bounds__(kThreads, MinBlocks(kTokens, kThreads))
    matvec_kernel(const __grid_constant__ MatvecMatrices matrices, const GpuVectors x,
                  int64_t n_tokens) {
  constexpr int kSums = kRows * kTokens;
  SHARED_ARRAY(float, parts, kWarps* kSums);
  int m = 0;
  while (m + 1 < matrices.n && blockIdx.x >= matrices.matrix[m + 1].first_block) ++m;
  const MatvecMatrix& matrix = matrices.matrix[m];
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int n_warps = 1 << matrix.log_warps;
  const int part = warp & (n_warps - 1);
  const int64_t first_warp = int64_t{blockIdx.x - matrix.first_block} * kWarps + warp;
  const int64_t group = first_warp >> matrix.log_warps;

  // The last row is read again in place of rows behind it.
  const std::byte* rows[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    rows[r] = matrix.w + min(group * kRows + r, matrix.rows - 1) * matrix.row_bytes;
  }
  float sums[kRows][kTokens];
  DotRows<kType>(rows, x, n_tokens, part, n_warps, sums);
  if (lane == 0) {
#pragma unroll
    for (int i = 0; i < kSums; ++i) parts[warp * kSums + i] = sums[i / kTokens][i % kTokens];
  }
  __syncthreads();

  if (part != 0 || lane >= kSums) return;
  const int64_t row = group * kRows + lane / kTokens;
  const int token = lane % kTokens;
  if (row >= matrix.rows || token >= n_tokens) return;
  float sum = parts[warp * kSums + lane];
  for (int p = 1; p < n_warps; ++p) sum += parts[(warp + p) * kSums + lane];
  if (matrix.bias != nullptr) sum += matrix.bias[row];
  matrix.y[token * matrix.rows + row] = sum;
}

// Returns the warps per group of rows, as a power of two: short matrices are split along their
// columns until the GPU is full, as long as every warp has a step of its own.
int LogWarpsPerGroup(const GpuMatrix& w) {
  const int64_t groups = CeilDiv(w.rows, kRows);
  const int64_t n_steps = CeilDiv(GpuPaddedCols(w.cols), LaneElements(w.dtype) * kWarpThreads);
  int log_warps = 0;
  while (1 << log_warps < kWarps && groups << log_warps < kFullGpu && n_steps >= 2 << log_warps) {
    ++log_warps;
  }
  return log_warps;
}

struct MatvecLaunch {
  MatvecMatrices matrices = {};
  unsigned n_blocks = 0;

  void Add(const GpuMatvecOp& op) {
    const int log_warps = LogWarpsPerGroup(op.w);
    matrices.matrix[matrices.n++] = {op.w.data, op.w.row_bytes, op.w.rows, op.bias,
                                     op.y,      log_warps,      n_blocks};
    n_blocks += static_cast<unsigned>(CeilDiv(op.w.rows, kRows * (kWarps >> log_warps)));
  }
};

// Multiplies the matrices of one launch by all tokens, up to 8 at a time.
void LaunchMatvec(Stream& stream, DType dtype, MatvecLaunch launch, const GpuVectors& x,
                  int64_t n_tokens) {
  for (int64_t first = 0; first < n_tokens; first += kMaxTokens) {
    const int64_t n = std::min(n_tokens - first, kMaxTokens);
    const GpuVectors vectors = VectorsFrom(x, first);
    WithTypeAndTokens(dtype, n, [&](auto type, auto tokens) {
      Launch(KERNEL(matvec_kernel<type(), tokens()>),
             {.grid = launch.n_blocks, .block = kThreads, .stream = stream}, launch.matrices,
             vectors, n);
    });
    for (MatvecMatrix& matrix : launch.matrices.matrix) {
      if (matrix.y != nullptr) matrix.y += n * matrix.rows;
    }
  }
}

}  // namespace

void GpuMatvec(Stream& stream, std::span<const GpuMatvecOp> ops, const GpuVectors& x,
               int64_t n_tokens) {
  for (const DType dtype : kWeightDTypes) {
    MatvecLaunch launch;
    const auto flush = [&] {
      if (launch.n_blocks > 0) LaunchMatvec(stream, dtype, launch, x, n_tokens);
      launch = {};
    };
    for (const GpuMatvecOp& op : ops) {
      if (op.w.dtype != dtype || op.w.rows == 0) continue;
      CHECK(op.w.cols == x.cols);
      launch.Add(op);
      if (launch.matrices.n == kMaxMatrices) flush();
    }
    flush();
  }
}

}  // namespace thermocline
