// Shared memory of a block, declared the same way for hardware and emulation:
//
//   SHARED_ARRAY(float, partial, 32);              // __shared__ float partial[32]
//   DYNAMIC_SHARED(float, scores, 0, n_positions); // from byte 0 of the launch's shared_bytes
//   partial[i] = x;  float y = partial[i];  atomicAdd(&partial[i], x);
//
// Each declares a SharedSpan<T>, which device functions take by value. On hardware it is a pointer;
// emulated, each access is checked: bounds, reads of what nobody has written, accesses that no
// barrier orders (gpu_kernels/emulation/ shared_memory.h). An element is read and written whole:
// `float4 v = s[i]`, not `s[i].x`; keep it in a variable of a named type, for `auto v = s[i]` is a
// reference.
#pragma once

#include <cstddef>

#include "gpu_kernels/base/cuda_api.h"

#ifdef THERMOCLINE_GPU_EMULATED
#include "gpu_kernels/emulation/shared_span.h"
#else

namespace thermocline {

template <typename T>
class SharedSpan {
 public:
  __device__ explicit SharedSpan(T* data) : data_(data) {}
  __device__ T& operator[](size_t i) const { return data_[i]; }

 private:
  T* data_;
};

// 16 bytes: what a vector load needs.
template <typename T>
__device__ T* DynamicSharedAt(size_t offset_bytes) {
  extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[];
  return reinterpret_cast<T*>(dynamic_shared_bytes + offset_bytes);
}

}  // namespace thermocline

#define SHARED_ARRAY(T, name, n)   \
  __shared__ T name##_elements[n]; \
  const ::thermocline::SharedSpan<T> name(name##_elements)
#define DYNAMIC_SHARED(T, name, offset_bytes, n) \
  const ::thermocline::SharedSpan<T> name(::thermocline::DynamicSharedAt<T>(offset_bytes))

#endif
