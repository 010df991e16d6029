// Flags in mapped memory by which kernels and host threads hand work to each other. Who publishes
// writes the data and then the flag with release; who waits reads the flag with acquire and then
// the data.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/cuda_api.h"

#ifdef THERMOCLINE_GPU_EMULATED
#include <chrono>
#endif

namespace thermocline {

// By one thread of a kernel, after a barrier behind the writes of the others.
__device__ inline void StoreReleaseSystem(uint32_t* flag, uint32_t value) {
#ifdef THERMOCLINE_GPU_EMULATED
  __atomic_store_n(flag, value, __ATOMIC_RELEASE);
#else
  __threadfence_system();
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
#endif
}

__device__ inline uint32_t LoadAcquireSystem(const uint32_t* flag) {
#ifdef THERMOCLINE_GPU_EMULATED
  return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
#else
  uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  return value;
#endif
}

// Waits until the flag is at least `value`, counted round the clock; emulated, gives way and is
// watched over.
__device__ inline void WaitForFlag(const uint32_t* flag, uint32_t value) {
  while (static_cast<int32_t>(LoadAcquireSystem(flag) - value) < 0) __nanosleep(64);
}

// A clock that runs on whatever the kernel does; differences alone mean something.
__device__ inline uint64_t ClockNs() {
#ifdef THERMOCLINE_GPU_EMULATED
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::nanoseconds(now).count());
#else
  uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
#endif
}

// WaitForFlag that gives up: whether the flag got there within timeout_ns.
__device__ inline bool AwaitFlag(const uint32_t* flag, uint32_t value, uint64_t timeout_ns) {
  const uint64_t start = ClockNs();
  while (static_cast<int32_t>(LoadAcquireSystem(flag) - value) < 0) {
    if (ClockNs() - start > timeout_ns) return false;
    __nanosleep(64);
  }
  return true;
}

}  // namespace thermocline
