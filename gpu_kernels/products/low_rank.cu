#include <algorithm>

#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/base/warp_reduce.h"
#include "gpu_kernels/products/low_rank.h"
#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpThreads;
constexpr int kShrinkRows = 4;   // that share a reading of A
constexpr int kExpandRows = 8;   // that share a reading of B; a divisor of a word's bits
constexpr int kMaxMatrices = 4;  // of a launch
constexpr int kMaxPairs = 24;    // of a launch: an adapter and a matrix

// An adapter's factors of one matrix.
struct Pair {
  const float* a;
  const float* b;
  float* inner;     // of its first rank in row 0
  int inner_width;  // floats from row to row
  int rank;
  int adapter;
};
struct Matrix {
  float* out;
  int64_t d_out;
  int first_pair;
  int n_pairs;
  bool replaces;  // out, else adds to it
};
struct PairLaunch {
  Pair pairs[kMaxPairs];
  Matrix matrices[kMaxMatrices];
  int n_pairs;
  int n_matrices;
};

// A block takes a row of A, for the rows of the pass whose bits are in one word. blockIdx.x is the
// rank, .y the pair, .z the word. Parts of a sum are added in the order of the warps.
__global__ void __launch_bounds__(kThreads)
    shrink_kernel(const __grid_constant__ PairLaunch launch, const GpuAdapterRows rows,
                  const float* __restrict__ x, int64_t d_in) {
  SHARED_ARRAY(float, parts, kShrinkRows* kWarps);
  const Pair& pair = launch.pairs[blockIdx.y];
  const int rank = static_cast<int>(blockIdx.x);
  if (rank >= pair.rank) return;  // the whole block
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const float* const a = pair.a + rank * d_in;
  const int64_t first_row = int64_t{blockIdx.z} * kGpuAdapterWordRows;
  unsigned mask = rows.words[pair.adapter * rows.n_words + blockIdx.z];
  while (mask != 0) {
    int64_t at[kShrinkRows];
    int64_t row = first_row;
    int n = 0;
#pragma unroll
    for (int k = 0; k < kShrinkRows; ++k) {
      if (mask != 0) {
        row = first_row + __ffs(static_cast<int>(mask)) - 1;
        mask &= mask - 1;
        ++n;
      }
      at[k] = row;
    }
    float sums[kShrinkRows] = {};
    for (int64_t i = threadIdx.x; i < d_in; i += kThreads) {
      const float factor = a[i];
#pragma unroll
      for (int k = 0; k < kShrinkRows; ++k) {
        if (k < n) sums[k] = fmaf(factor, x[at[k] * d_in + i], sums[k]);
      }
    }
#pragma unroll
    for (int k = 0; k < kShrinkRows; ++k) {
      const float sum = WarpSum(sums[k]);
      if (lane == 0) parts[k * kWarps + warp] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kShrinkRows; ++k) {
      if (static_cast<int>(threadIdx.x) != k || k >= n) continue;
      float sum = parts[k * kWarps];
      for (int w = 1; w < kWarps; ++w) sum += parts[k * kWarps + w];
      pair.inner[at[k] * pair.inner_width + rank] = sum;
    }
    __syncthreads();
  }
}

// A thread takes an output of kExpandRows rows. blockIdx.y is the matrix, .z the group of rows.
__global__ void __launch_bounds__(kThreads)
    expand_kernel(const __grid_constant__ PairLaunch launch, const GpuAdapterRows rows) {
  const Matrix& matrix = launch.matrices[blockIdx.y];
  const int64_t o = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (o >= matrix.d_out) return;
  const int64_t first_row = int64_t{blockIdx.z} * kExpandRows;
  const int64_t word = first_row / kGpuAdapterWordRows;
  const int shift = static_cast<int>(first_row % kGpuAdapterWordRows);
  float sums[kExpandRows] = {};
  unsigned any = 0;
  for (int p = matrix.first_pair; p < matrix.first_pair + matrix.n_pairs; ++p) {
    const Pair& pair = launch.pairs[p];
    const unsigned bits = rows.words[pair.adapter * rows.n_words + word] >> shift;
    const unsigned mask = bits & ((1u << kExpandRows) - 1);
    if (mask == 0) continue;
    any |= mask;
    const float* const inner = pair.inner + first_row * pair.inner_width;
    for (int r = 0; r < pair.rank; ++r) {
      const float b = pair.b[r * matrix.d_out + o];
#pragma unroll
      for (int k = 0; k < kExpandRows; ++k) {
        if ((mask >> k & 1u) != 0) sums[k] = fmaf(inner[k * pair.inner_width + r], b, sums[k]);
      }
    }
  }
#pragma unroll
  for (int k = 0; k < kExpandRows; ++k) {
    if (first_row + k >= rows.n_rows) break;
    float* const out = matrix.out + (first_row + k) * matrix.d_out + o;
    if (matrix.replaces) {
      *out = sums[k];
    } else if ((any >> k & 1u) != 0) {
      *out += sums[k];
    }
  }
}

// Gathers pairs until a launch is full.
class PairQueue {
 public:
  PairQueue(Stream& stream, const GpuAdapterRows& rows, const float* x, int64_t d_in)
      : stream_(stream), rows_(rows), x_(x), d_in_(d_in) {}

  void Add(const GpuLowRankOp& op, GpuLowRankInto into) {
    int64_t width = 0;
    for (const GpuLowRankFactors& factors : op.adapters) width += factors.rank;
    bool replaces = into == GpuLowRankInto::kReplace;
    CHECK(!replaces || width > 0);
    bool open = false;  // the op's matrix in the launch at hand
    int64_t offset = 0;
    for (size_t adapter = 0; adapter < op.adapters.size(); ++adapter) {
      const GpuLowRankFactors& factors = op.adapters[adapter];
      if (factors.rank == 0) continue;
      if (launch_.n_pairs == kMaxPairs || (!open && launch_.n_matrices == kMaxMatrices)) {
        Flush();
        open = false;
      }
      if (!open) {
        launch_.matrices[launch_.n_matrices++] = {op.out, op.d_out, launch_.n_pairs, 0, replaces};
        replaces = false;
        open = true;
      }
      ++launch_.matrices[launch_.n_matrices - 1].n_pairs;
      launch_.pairs[launch_.n_pairs++] = {
          factors.a,
          factors.b,
          op.inner + offset,
          static_cast<int>(width),
          static_cast<int>(factors.rank),
          static_cast<int>(adapter),
      };
      offset += factors.rank;
      max_rank_ = std::max(max_rank_, factors.rank);
      max_out_ = std::max(max_out_, op.d_out);
    }
  }

  void Flush() {
    if (launch_.n_pairs == 0) return;
    const dim3 shrink(static_cast<unsigned>(max_rank_), static_cast<unsigned>(launch_.n_pairs),
                      static_cast<unsigned>(CeilDiv(rows_.n_rows, kGpuAdapterWordRows)));
    Launch(KERNEL(shrink_kernel), {.grid = shrink, .block = kThreads, .stream = stream_}, launch_,
           rows_, x_, d_in_);
    const dim3 expand(static_cast<unsigned>(CeilDiv(max_out_, int64_t{kThreads})),
                      static_cast<unsigned>(launch_.n_matrices),
                      static_cast<unsigned>(CeilDiv(rows_.n_rows, int64_t{kExpandRows})));
    Launch(KERNEL(expand_kernel), {.grid = expand, .block = kThreads, .stream = stream_}, launch_,
           rows_);
    launch_ = {};
    max_rank_ = 0;
    max_out_ = 0;
  }

 private:
  Stream& stream_;
  GpuAdapterRows rows_;
  const float* x_;
  int64_t d_in_;
  PairLaunch launch_ = {};
  int64_t max_rank_ = 0;
  int64_t max_out_ = 0;
};

}  // namespace

void GpuAddLowRank(Stream& stream, std::span<const GpuLowRankOp> ops, const GpuAdapterRows& rows,
                   const float* x, int64_t d_in, GpuLowRankInto into) {
  CHECK(rows.n_words * kGpuAdapterWordRows >= rows.n_rows);
  if (rows.n_rows == 0) return;
  PairQueue queue(stream, rows, x, d_in);
  for (const GpuLowRankOp& op : ops) {
    if (op.d_out > 0) queue.Add(op, into);
  }
  queue.Flush();
}

}  // namespace thermocline
