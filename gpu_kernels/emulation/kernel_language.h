// CUDA's words for kernels, as host C++: qualifiers, indices, barriers, exchanges of a warp.
// __shared__ and __activemask() are left out: shared memory is declared by the macros of
// gpu_kernels/base/shared_memory.h, and which lanes have converged is nothing to build on.
#pragma once

#include <bit>
#include <cstring>
#include <type_traits>

#include "gpu_kernels/emulation/block.h"
#include "gpu_kernels/emulation/vector_types.h"

#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline
#define __noinline__ [[gnu::noinline]]
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __align__(n) alignas(n)
#define __grid_constant__

#define threadIdx (::thermocline::emulation::CurrentThread().index)
#define blockIdx (::thermocline::emulation::CurrentBlock().block_index())
#define blockDim (::thermocline::emulation::CurrentBlock().launch().block)
#define gridDim (::thermocline::emulation::CurrentBlock().launch().grid)
inline constexpr int warpSize = 32;

// Every call knows its place in the source, for reports.
#define EMULATED_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(EMULATED_SITE) {
  thermocline::emulation::CurrentBlock().Barrier("__syncthreads", {file, line}, false);
}
inline int __syncthreads_count(int predicate, EMULATED_SITE) {
  return static_cast<int>(thermocline::emulation::CurrentBlock().Barrier(
      "__syncthreads_count", {file, line}, predicate != 0));
}
inline int __syncthreads_or(int predicate, EMULATED_SITE) {
  return thermocline::emulation::CurrentBlock().Barrier("__syncthreads_or", {file, line},
                                                        predicate != 0) != 0;
}
inline int __syncthreads_and(int predicate, EMULATED_SITE) {
  auto& block = thermocline::emulation::CurrentBlock();
  return block.Barrier("__syncthreads_and", {file, line}, predicate != 0) == block.n_threads();
}
inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATED_SITE) {
  thermocline::emulation::CurrentBlock().SyncWarp(mask, {file, line});
}
// The place where a kernel that waits for the host gives way; every waiting loop needs one.
inline void __nanosleep(unsigned /*nanoseconds*/, EMULATED_SITE) {
  thermocline::emulation::CurrentBlock().Yield({file, line});
}

namespace thermocline::emulation {

inline unsigned ThisLane() { return CurrentThread().lane(); }

// Returns the value of lane `source`. All lanes of the mask call it.
template <typename T>
T Shuffle(const char* what, unsigned mask, T value, unsigned source, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  Exchange mine{.what = what, .mask = mask, .site = site, .source = source};
  std::memcpy(mine.value, &value, sizeof(T));
  const ExchangeResult result = CurrentBlock().MeetWarp(mine);
  std::memcpy(&value, result.value, sizeof(T));
  return value;
}

// Returns the lanes of the mask whose predicate is true.
inline unsigned Ballot(const char* what, unsigned mask, bool predicate, Site site) {
  const Exchange mine{
      .what = what, .mask = mask, .site = site, .source = ThisLane(), .predicate = predicate};
  return CurrentBlock().MeetWarp(mine).ballot;
}

// Returns `to`, or the lane itself where `to` lies outside this lane's group of `width` lanes.
inline unsigned WithinGroup(int to, int width) {
  const int lane = static_cast<int>(ThisLane());
  const int base = lane / width * width;
  return static_cast<unsigned>(to < base || to >= base + width ? lane : to);
}

}  // namespace thermocline::emulation

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATED_SITE) {
  using namespace thermocline::emulation;
  const unsigned base = ThisLane() / width * width;
  return Shuffle("__shfl_sync", mask, value, base + static_cast<unsigned>(source) % width,
                 {file, line});
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EMULATED_SITE) {
  using namespace thermocline::emulation;
  const int to = static_cast<int>(ThisLane()) - static_cast<int>(delta);
  return Shuffle("__shfl_up_sync", mask, value, WithinGroup(to, width), {file, line});
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EMULATED_SITE) {
  using namespace thermocline::emulation;
  const int to = static_cast<int>(ThisLane() + delta);
  return Shuffle("__shfl_down_sync", mask, value, WithinGroup(to, width), {file, line});
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, EMULATED_SITE) {
  using namespace thermocline::emulation;
  const int to = static_cast<int>(ThisLane()) ^ lane_mask;
  // Groups before this lane's may be read, groups behind it may not.
  const int end = (static_cast<int>(ThisLane()) / width + 1) * width;
  const unsigned source = to >= end ? ThisLane() : static_cast<unsigned>(to);
  return Shuffle("__shfl_xor_sync", mask, value, source, {file, line});
}
inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATED_SITE) {
  return thermocline::emulation::Ballot("__ballot_sync", mask, predicate != 0, {file, line});
}
inline int __any_sync(unsigned mask, int predicate, EMULATED_SITE) {
  return thermocline::emulation::Ballot("__any_sync", mask, predicate != 0, {file, line}) != 0;
}
inline int __all_sync(unsigned mask, int predicate, EMULATED_SITE) {
  return thermocline::emulation::Ballot("__all_sync", mask, predicate != 0, {file, line}) == mask;
}

#undef EMULATED_SITE
