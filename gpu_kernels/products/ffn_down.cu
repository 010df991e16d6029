#include <algorithm>

#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/base/warp_reduce.h"
#include "gpu_kernels/products/column_sums.h"
#include "gpu_kernels/products/dispatch.h"
#include "gpu_kernels/products/ffn.h"
#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kWarps = kColumnWarps;
constexpr int kThreads = kWarps * kWarpThreads;

// Tokens that a launch takes at once, as a lane has a sum per token and column.
constexpr int DownTokens(DType dtype) {
  constexpr int kMaxSums = 64;
  return std::min(static_cast<int>(kMaxTokens), kMaxSums / LaneElements(dtype));
}

struct DownOp {
  const std::byte* w;
  int64_t row_bytes;
  int64_t padded_cols;
  int64_t n_neurons;
  const float* h;        // (n_tokens, n_neurons)
  float* partial;        // (n_chunks, n_tokens of the launch, padded_cols)
  int32_t* counts;       // (n_chunks) elements of h that are not 0
  uint32_t* fired;       // (n_neurons) or null: tokens in which h was not 0, so far
  int neurons_per_warp;  // a chunk of neurons is this for each of a block's warps
  bool skip_inactive;

  __device__ int64_t chunk_neurons() const { return int64_t{neurons_per_warp} * kWarps; }
};

// Stores how many of the chunk's elements of h are not 0. All threads of the block call it.
template <int kTokens>
__device__ inline void CountActive(const DownOp& op, const float (&h)[kTokens]) {
  int n_active = 0;
#pragma unroll
  for (int t = 0; t < kTokens; ++t) n_active += __syncthreads_count(h[t] != 0);
  if (threadIdx.x == 0) op.counts[blockIdx.y] = n_active;
}

// blockIdx.x is the strip of columns, blockIdx.y the chunk of neurons. Every warp takes its part of
// the chunk.
template <DType kType, int kTokens>
__global__ void __launch_bounds__(kThreads, MinBlocks(kTokens, kThreads))
    down_kernel(const DownOp op, int64_t n_tokens) {
  const int64_t chunk = blockIdx.y * op.chunk_neurons();
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int64_t first_row = chunk + int64_t{warp} * op.neurons_per_warp;
  const int64_t neuron = first_row + lane;
  const bool mine = lane < op.neurons_per_warp && neuron < op.n_neurons;

  float h[kTokens];
  bool wanted = mine && !op.skip_inactive;
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    h[t] = mine && t < n_tokens ? op.h[t * op.n_neurons + neuron] : 0.0f;
    wanted |= h[t] != 0;
  }
  if (blockIdx.x == 0) CountActive(op, h);
  // No other thread has this neuron.
  if (blockIdx.x == 0 && mine && op.fired != nullptr) {
    uint32_t fired = 0;
#pragma unroll
    for (int t = 0; t < kTokens; ++t) fired += h[t] != 0 ? 1 : 0;
    op.fired[neuron] += fired;
  }
  const unsigned mask = __ballot_sync(kFullWarpMask, wanted);

  constexpr int kElements = LaneElements(kType);
  float sums[kTokens][kElements] = {};
  // Lanes behind the last column read the last column's weights.
  const int64_t last_step = op.padded_cols / kElements - 1;
  const int64_t lane_step = min(int64_t{blockIdx.x} * kWarpThreads + lane, last_step);
  const RowsToAdd rows{op.w, op.row_bytes, op.padded_cols};
  const auto row_of = [first_row](int source) { return first_row + source; };
  AddRows<kType, kTokens>(rows, mask, h, row_of, lane_step, sums);
  float* const out = op.partial + blockIdx.y * n_tokens * op.padded_cols;
  StorePartial<kType, kTokens>(out, op.padded_cols, n_tokens, sums);
}

struct MergeOp {
  const float* partial;  // (n_chunks, pass_tokens, padded_cols)
  int64_t pass_tokens;
  int64_t padded_cols;
  float* y;  // (n_tokens, cols)
  int64_t cols;
  const int32_t* counts;  // (n_passes, n_chunks)
  int64_t n_chunks;
  int64_t n_passes;
  int32_t* n_active;  // or null
};

// y = the chunks' partial sums, added in a fixed order: warp w of the block adds chunks w, w + 8
// ... of 32 columns, then the warps' sums are added. blockIdx.y is the token.
__global__ void __launch_bounds__(kThreads) merge_kernel(const MergeOp op) {
  SHARED_ARRAY(float, sums, kThreads);
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int64_t col = int64_t{blockIdx.x} * kWarpThreads + lane;
  const float* const partial = op.partial + blockIdx.y * op.padded_cols + col;
  float sum = 0;
#pragma unroll 4
  for (int64_t chunk = warp; chunk < op.n_chunks; chunk += kWarps) {
    sum += partial[chunk * op.pass_tokens * op.padded_cols];
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (warp != 0) return;
  for (int w = 1; w < kWarps; ++w) sum += sums[w * kWarpThreads + lane];
  if (col < op.cols) op.y[blockIdx.y * op.cols + col] = sum;

  if (op.n_active == nullptr || blockIdx.x != 0 || blockIdx.y != 0) return;
  int n_active = 0;
  for (int64_t pass = 0; pass < op.n_passes; ++pass) {
    for (int64_t chunk = lane; chunk < op.n_chunks; chunk += kWarpThreads) {
      n_active += op.counts[pass * op.n_chunks + chunk];
    }
  }
  n_active = WarpSum(n_active);
  if (lane == 0) *op.n_active = n_active;
}

// How down is cut up, which follows from its shape and type alone.
struct DownPlan {
  int64_t padded_cols;
  int64_t n_strips;
  int64_t n_chunks;
  int neurons_per_warp;

  explicit DownPlan(const GpuMatrix& down)
      : padded_cols(GpuPaddedCols(down.cols)),
        n_strips(CeilDiv(padded_cols, StripCols(down.dtype))) {
    // Long chunks write few partial sums; short ones are for matrices that would leave the GPU
    // idle.
    constexpr int64_t kEnoughBlocks = 512;
    constexpr int64_t kFewBlocks = 128;
    neurons_per_warp = kWarpThreads;
    const auto n_blocks = [&] { return n_strips * CeilDiv(down.rows, kWarps * neurons_per_warp); };
    while (n_blocks() < kEnoughBlocks && neurons_per_warp > (n_blocks() < kFewBlocks ? 4 : 16)) {
      neurons_per_warp /= 2;
    }
    n_chunks = CeilDiv(down.rows, kWarps * neurons_per_warp);
  }
};

// The counts come first in the workspace.
int64_t CountBytes(const DownPlan& plan, int64_t n_passes) {
  constexpr int64_t kAlignment = 16;
  return AlignUp(n_passes * plan.n_chunks * static_cast<int64_t>(sizeof(int32_t)), kAlignment);
}

}  // namespace

uint64_t GpuFfnDownBytes(const GpuMatrix& down, int64_t n_tokens) {
  const DownPlan plan(down);
  const int64_t pass_tokens = std::min<int64_t>(n_tokens, DownTokens(down.dtype));
  const int64_t n_passes = CeilDiv(n_tokens, DownTokens(down.dtype));
  const int64_t partial = plan.n_chunks * pass_tokens * plan.padded_cols;
  return static_cast<uint64_t>(CountBytes(plan, n_passes) +
                               partial * static_cast<int64_t>(sizeof(float)));
}

void GpuFfnDown(Stream& stream, const GpuMatrix& down, GpuSkip skip, const float* h,
                int64_t n_tokens, void* workspace, float* y, int32_t* n_active, uint32_t* fired) {
  if (n_tokens == 0 || down.cols == 0) return;
  const DownPlan plan(down);
  const int64_t n_passes = CeilDiv(n_tokens, DownTokens(down.dtype));
  auto* const counts = static_cast<int32_t*>(workspace);
  auto* const partial =
      reinterpret_cast<float*>(static_cast<std::byte*>(workspace) + CountBytes(plan, n_passes));
  const dim3 grid(static_cast<unsigned>(plan.n_strips), static_cast<unsigned>(plan.n_chunks));
  for (int64_t pass = 0; pass < n_passes; ++pass) {
    const int64_t first = pass * DownTokens(down.dtype);
    const int64_t n = std::min<int64_t>(n_tokens - first, DownTokens(down.dtype));
    const DownOp op{down.data,
                    down.row_bytes,
                    plan.padded_cols,
                    down.rows,
                    h + first * down.rows,
                    partial,
                    counts + pass * plan.n_chunks,
                    fired,
                    plan.neurons_per_warp,
                    skip == GpuSkip::kInactive};
    const MergeOp merge{.partial = partial,
                        .pass_tokens = n,
                        .padded_cols = plan.padded_cols,
                        .y = y + first * down.cols,
                        .cols = down.cols,
                        .counts = counts,
                        .n_chunks = plan.n_chunks,
                        .n_passes = n_passes,
                        .n_active = pass + 1 == n_passes ? n_active : nullptr};
    VisitGpuType(down.dtype, [&](auto type) {
      if (down.rows == 0) return;  // merge_kernel then adds nothing up to 0
      constexpr int kMany = DownTokens(type());
      const LaunchConfig config{.grid = grid, .block = kThreads, .stream = stream};
      if (n == 1) {
        Launch(KERNEL(down_kernel<type(), 1>), config, op, n);
      } else {
        Launch(KERNEL(down_kernel<type(), kMany>), config, op, n);
      }
    });
    const dim3 merge_grid(static_cast<unsigned>(CeilDiv(down.cols, kWarpThreads)),
                          static_cast<unsigned>(n));
    Launch(KERNEL(merge_kernel), {.grid = merge_grid, .block = kThreads, .stream = stream}, merge);
  }
}

}  // namespace thermocline
