#include <algorithm>

#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/base/read_bandwidth.h"
#include "gpu_kernels/base/warp_reduce.h"
#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kThreads = 256;
constexpr int kLoads = 4;                // of 16 bytes, under way in a thread
constexpr int64_t kMaxBlocks = 1 << 14;  // some rounds of any GPU's multiprocessors

__global__ void __launch_bounds__(kThreads)
    read_words_kernel(const uint4* __restrict__ data, int64_t n, uint32_t* sum) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  uint32_t total = 0;
  for (int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x; first < n;
       first += kLoads * stride) {
    uint4 words[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) words[i] = __ldcs(data + min(first + i * stride, n - 1));
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const uint32_t four = words[i].x + words[i].y + words[i].z + words[i].w;
      total += first + i * stride < n ? four : 0;
    }
  }
  total = WarpSum(total);
  if (threadIdx.x % kWarpThreads == 0) atomicAdd(sum, total);
}

}  // namespace

void GpuReadWords(Stream& stream, const void* data, uint64_t n_bytes, uint32_t* sum) {
  CHECK(n_bytes % sizeof(uint4) == 0);
  const auto n = static_cast<int64_t>(n_bytes / sizeof(uint4));
  if (n == 0) return;
  const auto grid =
      static_cast<unsigned>(std::min(CeilDiv(n, int64_t{kThreads} * kLoads), kMaxBlocks));
  Launch(KERNEL(read_words_kernel), {.grid = grid, .block = kThreads, .stream = stream},
         static_cast<const uint4*>(data), n, sum);
}

}  // namespace thermocline
