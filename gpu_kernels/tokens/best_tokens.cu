#include <cmath>
#include <utility>

#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/base/warp_reduce.h"
#include "gpu_kernels/tokens/best_tokens.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

// A logit and its id as one number: greater is better, no two are equal, and 0 is none.
using Key = unsigned long long;

__device__ Key KeyOf(float logit, int64_t id) {
  if (!isfinite(logit)) return 0;
  const unsigned bits = __float_as_uint(logit + 0.0f);  // -0 becomes 0
  const unsigned ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return Key{ordered} << 32 | static_cast<unsigned>(~static_cast<unsigned>(id));
}
__device__ int32_t IdOf(Key key) {
  return key == 0 ? -1 : static_cast<int32_t>(~static_cast<unsigned>(key));
}
__device__ float LogitOf(Key key) {
  if (key == 0) return NAN;
  const auto ordered = static_cast<unsigned>(key >> 32);
  return __uint_as_float((ordered >> 31) != 0 ? ordered & 0x7fffffffu : ~ordered);
}

// ---- the best and the second ----

constexpr int kBestThreads = 256;
constexpr int64_t kBestSlice = 4096;

struct BestTwo {
  Key first = 0;
  Key second = 0;
  __device__ void Add(const BestTwo& other) {
    second = max(min(first, other.first), max(second, other.second));
    first = max(first, other.first);
  }
};

__device__ BestTwo BestOfWarp(BestTwo best) {
  for (int distance = kWarpThreads / 2; distance > 0; distance /= 2) {
    best.Add({__shfl_xor_sync(kFullWarpMask, best.first, distance),
              __shfl_xor_sync(kFullWarpMask, best.second, distance)});
  }
  return best;
}

// In every thread of the first warp.
__device__ BestTwo BestOfBlock(BestTwo best, const SharedSpan<Key>& partial) {
  constexpr unsigned kWarps = kBestThreads / kWarpThreads;
  const unsigned lane = threadIdx.x % kWarpThreads;
  best = BestOfWarp(best);
  if (lane == 0) {
    partial[threadIdx.x / kWarpThreads * 2] = best.first;
    partial[threadIdx.x / kWarpThreads * 2 + 1] = best.second;
  }
  __syncthreads();
  if (threadIdx.x >= kWarpThreads) return {};
  best = {};
  if (lane < kWarps) best = {partial[lane * 2], partial[lane * 2 + 1]};
  return BestOfWarp(best);
}

// Grid: slices, rows. slices: (n_rows, slices) pairs.
__global__ void __launch_bounds__(kBestThreads)
    best_of_slice_kernel(const float* logits, int64_t vocab_size, BestTwo* slices) {
  SHARED_ARRAY(Key, partial, kBestThreads / kWarpThreads * 2);
  logits += blockIdx.y * vocab_size;
  const int64_t begin = blockIdx.x * kBestSlice;
  const int64_t end = min(begin + kBestSlice, vocab_size);
  BestTwo best;
  for (int64_t i = begin + threadIdx.x; i < end; i += kBestThreads) {
    best.Add({KeyOf(logits[i], i), 0});
  }
  best = BestOfBlock(best, partial);
  if (threadIdx.x == 0) slices[int64_t{blockIdx.y} * gridDim.x + blockIdx.x] = best;
}

// A block per row.
__global__ void __launch_bounds__(kBestThreads)
    best_of_slices_kernel(const BestTwo* slices, int64_t n_slices, GpuBestToken* result) {
  SHARED_ARRAY(Key, partial, kBestThreads / kWarpThreads * 2);
  BestTwo best;
  for (int64_t i = threadIdx.x; i < n_slices; i += kBestThreads) {
    best.Add(slices[blockIdx.x * n_slices + i]);
  }
  best = BestOfBlock(best, partial);
  if (threadIdx.x != 0) return;
  const float logit = LogitOf(best.first);
  const float lead = best.second == 0 ? INFINITY : logit - LogitOf(best.second);
  result[blockIdx.x] = {IdOf(best.first), logit, lead};
}

int64_t NumSlices(int64_t n, int64_t slice) { return (n + slice - 1) / slice; }

// ---- the best k ----

constexpr int kSortThreads = 512;
constexpr int kSortKeys = 2 * static_cast<int>(kMaxTopTokens);

// Batcher's bitonic sort of kSortKeys keys, the greatest first.
__device__ void SortKeys(const SharedSpan<Key>& keys) {
  for (int run = 2; run <= kSortKeys; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      for (int pair = static_cast<int>(threadIdx.x); pair < kSortKeys / 2; pair += kSortThreads) {
        const int i = pair / distance * 2 * distance + pair % distance;
        const Key a = keys[i];
        const Key b = keys[i + distance];
        const bool greatest_first = (i & run) == 0;
        if ((a < b) == greatest_first) {
          keys[i] = b;
          keys[i + distance] = a;
        }
      }
      __syncthreads();
    }
  }
}

// Grid: slices of kSortKeys, rows. Reads logits where there are, else keys_in: (n_rows, n). Several
// slices write their best k to keys_out: (n_rows, slices, k), a single one writes the result.
__global__ void __launch_bounds__(kSortThreads)
    top_of_slice_kernel(const float* logits, const Key* keys_in, int64_t n, int k, Key* keys_out,
                        int32_t* ids, float* values) {
  SHARED_ARRAY(Key, keys, kSortKeys);
  const int64_t row = blockIdx.y;
  for (int i = static_cast<int>(threadIdx.x); i < kSortKeys; i += kSortThreads) {
    const int64_t at = int64_t{blockIdx.x} * kSortKeys + i;
    Key key = 0;
    if (at < n) key = logits != nullptr ? KeyOf(logits[row * n + at], at) : keys_in[row * n + at];
    keys[i] = key;
  }
  __syncthreads();
  SortKeys(keys);
  for (int i = static_cast<int>(threadIdx.x); i < k; i += kSortThreads) {
    const Key key = keys[i];
    if (gridDim.x > 1) {
      keys_out[(row * gridDim.x + blockIdx.x) * k + i] = key;
    } else {
      ids[row * k + i] = IdOf(key);
      values[row * k + i] = LogitOf(key);
    }
  }
}

}  // namespace

uint64_t GpuFindBestScratchBytes(int64_t n_rows, int64_t vocab_size) {
  return static_cast<uint64_t>(n_rows * NumSlices(vocab_size, kBestSlice)) * sizeof(BestTwo);
}

void GpuFindBest(Stream& stream, const float* logits, int64_t n_rows, int64_t vocab_size,
                 void* scratch, GpuBestToken* best) {
  if (n_rows == 0) return;
  CHECK(vocab_size >= 1);
  auto* const slices = static_cast<BestTwo*>(scratch);
  const int64_t n_slices = NumSlices(vocab_size, kBestSlice);
  const dim3 grid(static_cast<unsigned>(n_slices), static_cast<unsigned>(n_rows));
  Launch(KERNEL(best_of_slice_kernel), {.grid = grid, .block = kBestThreads, .stream = stream},
         logits, vocab_size, slices);
  Launch(KERNEL(best_of_slices_kernel),
         {.grid = static_cast<unsigned>(n_rows), .block = kBestThreads, .stream = stream}, slices,
         n_slices, best);
}

// Two buffers of keys, which take turns.
uint64_t GpuTopTokensScratchBytes(int64_t n_rows, int64_t vocab_size, int64_t k) {
  return static_cast<uint64_t>(2 * n_rows * NumSlices(vocab_size, kSortKeys) * k) * sizeof(Key);
}

// k is at most half a slice, so that every round at least halves what is left.
void GpuTopTokens(Stream& stream, const float* logits, int64_t n_rows, int64_t vocab_size,
                  int64_t k, void* scratch, int32_t* ids, float* values) {
  if (n_rows == 0) return;
  CHECK(vocab_size >= 1 && k >= 1 && k <= kMaxTopTokens);
  int64_t n = vocab_size;
  int64_t n_slices = NumSlices(n, kSortKeys);
  auto* to = static_cast<Key*>(scratch);
  Key* from = to + n_rows * n_slices * k;
  for (bool first = true;; first = false) {
    const dim3 grid(static_cast<unsigned>(n_slices), static_cast<unsigned>(n_rows));
    Launch(KERNEL(top_of_slice_kernel), {.grid = grid, .block = kSortThreads, .stream = stream},
           first ? logits : nullptr, from, n, k, to, ids, values);
    if (n_slices == 1) return;
    n = n_slices * k;
    n_slices = NumSlices(n, kSortKeys);
    std::swap(from, to);
  }
}

}  // namespace thermocline
