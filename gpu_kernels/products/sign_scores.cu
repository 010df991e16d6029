#include <algorithm>

#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/base/plane_bytes.h"
#include "gpu_kernels/base/warp_reduce.h"
#include "gpu_kernels/products/dispatch.h"
#include "gpu_kernels/products/sign_scores.h"
#include "runtime/core/checked_math.h"

namespace thermocline {
namespace {

constexpr int kPackThreads = 256;
constexpr int kWarps = 8;  // of a block that scores
constexpr int kThreads = kWarps * kWarpThreads;
constexpr int kRows = 4;  // that a warp scores at once: so many loads are under way
constexpr int kLaneWords = 4;

// A warp per word; blockIdx.y is the token.
__global__ void __launch_bounds__(kPackThreads)
    pack_signs_kernel(const float* __restrict__ x, int64_t cols, int64_t n_words,
                      uint32_t* __restrict__ words) {
  const int64_t word = (int64_t{blockIdx.x} * kPackThreads + threadIdx.x) / kWarpThreads;
  if (word >= n_words) return;
  const int64_t lane = threadIdx.x % kWarpThreads;
  const int64_t col = word * kWarpThreads + lane;
  const int64_t token = blockIdx.y;
  const float value = col < cols ? x[token * cols + col] : 0.0f;
  const unsigned signs = __ballot_sync(kFullWarpMask, __float_as_uint(value) >> 31 != 0);
  if (lane == 0) words[token * n_words + word] = signs;
}

// A warp takes a token, in double and in the order in which the CPU adds
// (predictor/sign_predictor.cc).
__global__ void __launch_bounds__(kWarpThreads)
    inverse_mean_kernel(const float* __restrict__ x, int64_t cols,
                        float* __restrict__ inverse_mean) {
  const float* const row = x + blockIdx.x * cols;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < cols; i += kWarpThreads) {
    sum += fabs(static_cast<double>(row[i]));
  }
  sum = WarpSum(sum);
  const double mean = sum / static_cast<double>(cols);
  // NaN stays NaN.
  const float least = static_cast<float>(mean < 1e-30 ? 1e-30 : mean);
  if (threadIdx.x == 0) inverse_mean[blockIdx.x] = 1.0f / least;
}

// A warp takes kRows rows, each read once for all tokens of the launch.
template <int kTokens>
__global__ void __launch_bounds__(kThreads)
    sign_scores_kernel(const GpuSignRows rows, const GpuSignInput input, int64_t n_tokens,
                       int64_t n_words, float* __restrict__ scores) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int64_t first_row = (int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpThreads) * kRows;
  if (first_row >= rows.rows) return;
  int counts[kRows][kTokens] = {};
  for (int64_t word = lane * kLaneWords; word < n_words; word += kWarpThreads * kLaneWords) {
    uint4 w[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      // The last row is read again in place of rows behind it.
      const int64_t row = min(first_row + r, rows.rows - 1);
      w[r] = *reinterpret_cast<const uint4*>(rows.words + row * n_words + word);
    }
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      if (t >= n_tokens) break;
      const uint4 signs = *reinterpret_cast<const uint4*>(input.words + t * n_words + word);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        counts[r][t] += __popc(w[r].x ^ signs.x) + __popc(w[r].y ^ signs.y) +
                        __popc(w[r].z ^ signs.z) + __popc(w[r].w ^ signs.w);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const int negative = WarpSum(counts[r][t]);
      const int64_t row = first_row + r;
      if (lane != t || t >= n_tokens || row >= rows.rows) continue;
      float score = static_cast<float>(rows.cols - 2 * int64_t{negative});
      // Each step is rounded, as the CPU does it.
      if (rows.scaled_bias != nullptr) {
        score = __fadd_rn(score, __fmul_rn(rows.scaled_bias[row], input.inverse_mean[t]));
      }
      scores[t * rows.rows + row] = score;
    }
  }
}

}  // namespace

int64_t GpuSignWords(int64_t cols) {
  return AlignUp(CeilDiv(cols, int64_t{kWarpThreads}), int64_t{kLaneWords});
}

uint64_t GpuSignInputBytes(int64_t cols, int64_t n_tokens) {
  const auto n = static_cast<uint64_t>(n_tokens);
  return PlaneBytes(n * static_cast<uint64_t>(GpuSignWords(cols)) * sizeof(uint32_t)) +
         PlaneBytes(n * sizeof(float));
}

GpuSignInput MakeGpuSignInput(void* memory, int64_t cols, int64_t n_tokens) {
  const auto n_words = static_cast<uint64_t>(n_tokens * GpuSignWords(cols));
  auto* const words = static_cast<unsigned char*>(memory);
  return {reinterpret_cast<uint32_t*>(words),
          reinterpret_cast<float*>(words + PlaneBytes(n_words * sizeof(uint32_t)))};
}

void GpuSignScores(Stream& stream, const GpuSignRows& rows, const float* x, int64_t n_tokens,
                   const GpuSignInput& input, float* scores) {
  if (n_tokens == 0 || rows.rows == 0) return;
  const int64_t n_words = GpuSignWords(rows.cols);
  const dim3 pack_grid(static_cast<unsigned>(CeilDiv(n_words * kWarpThreads, kPackThreads)),
                       static_cast<unsigned>(n_tokens));
  Launch(KERNEL(pack_signs_kernel), {.grid = pack_grid, .block = kPackThreads, .stream = stream}, x,
         rows.cols, n_words, input.words);
  if (rows.scaled_bias != nullptr) {
    Launch(KERNEL(inverse_mean_kernel),
           {.grid = static_cast<unsigned>(n_tokens), .block = kWarpThreads, .stream = stream}, x,
           rows.cols, input.inverse_mean);
  }
  const auto grid = static_cast<unsigned>(CeilDiv(rows.rows, int64_t{kWarps * kRows}));
  for (int64_t first = 0; first < n_tokens; first += kMaxTokens) {
    const int64_t n = std::min(n_tokens - first, kMaxTokens);
    const GpuSignInput part{input.words + first * n_words, input.inverse_mean + first};
    const LaunchConfig config{.grid = grid, .block = kThreads, .stream = stream};
    float* const out = scores + first * rows.rows;
    if (n == 1) {
      Launch(KERNEL(sign_scores_kernel<1>), config, rows, part, n, n_words, out);
    } else {
      Launch(KERNEL(sign_scores_kernel<kMaxTokens>), config, rows, part, n, n_words, out);
    }
  }
}

}  // namespace thermocline
